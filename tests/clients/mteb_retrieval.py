"""Retrieval tasks of mteb over a bundle, without a network: JSON in, JSON out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import mteb
from datasets import Dataset, Features, Image, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SparseEncoderWrapper

from serving.sparse_encoder.open_encoder import open_sparse_encoder


def metadata(name: str, category: str, modalities: list[str], kind: str) -> TaskMetadata:
    """What mteb wants to know of a task."""
    return TaskMetadata(
        name=name,
        description="Words find drawings of them.",
        reference="https://example.org",
        dataset={"path": "NA", "revision": "NA"},
        type=kind,
        category=category,
        modalities=modalities,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=("2026-01-01", "2026-01-01"),
        dialect=["Written"],
        domains=[],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        sample_creation="found",
        bibtex_citation="",
    )


def task(name: str, queries: Dataset, corpus: Dataset, made: TaskMetadata) -> AbsTaskRetrieval:
    """The query of a number belongs to the document of the same number."""
    relevant = {f"q{i}": {f"d{i}": 1} for i in range(len(queries))}

    class OwnRetrieval(AbsTaskRetrieval):
        metadata = made

        def load_data(self, num_proc: int | None = None, **options: Any) -> None:
            split = {
                "queries": queries,
                "corpus": corpus,
                "relevant_docs": relevant,
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return OwnRetrieval()


def main(given: dict[str, Any]) -> dict[str, float]:
    """The score of each task."""
    queries = Dataset.from_list(
        [{"id": f"q{i}", "text": text} for i, text in enumerate(given["queries"])]
    )
    texts = Dataset.from_list(
        [{"id": f"d{i}", "text": text, "title": ""} for i, text in enumerate(given["texts"])]
    )
    images = Dataset.from_list(
        [{"id": f"d{i}", "image": path} for i, path in enumerate(given["images"])]
    ).cast(Features({"id": Value("string"), "image": Image()}))
    tasks = [
        task("OwnTexts", queries, texts, metadata("OwnTexts", "t2t", ["text"], "Retrieval")),
        task(
            "OwnImages",
            queries,
            images,
            metadata("OwnImages", "t2i", ["text", "image"], "Any2AnyRetrieval"),
        ),
    ]
    model = SparseEncoderWrapper(open_sparse_encoder(given["bundle"], threads=1))
    model.mteb_model_meta.modalities = ["text", "image"]  # it takes texts alone for granted
    with tempfile.TemporaryDirectory() as folder:
        results = mteb.evaluate(
            model, tasks, cache=mteb.cache.ResultCache(folder), overwrite_strategy="always"
        )
    return {one.task_name: one.get_score() for one in results.task_results}


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
