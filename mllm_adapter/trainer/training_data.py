"""What an adapter learns from: images with their codes, and conversations about them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.store import Bundle
from mllm_adapter.adapter_recipe import AdapterRecipe
from mllm_adapter.data.code_tables import (
    BackboneGraphs,
    CodeTable,
    cached_code_table,
    cached_code_tables,
)
from mllm_adapter.data.easy_vqa import easy_vqa
from mllm_adapter.data.image_collection import (
    CODES_FOLDER,
    ImageCollection,
    LabelledImages,
    shape_images,
)
from mllm_adapter.data.instructions import Instructions
from mllm_adapter.data.own_conversations import Conversation, OwnConversations
from mllm_adapter.data.phrase_concepts import PhraseConcepts, phrase_problems
from mllm_adapter.data.phrase_lists import PhraseList, WithheldWords
from mllm_adapter.data.text_pictures import text_pictures
from mllm_adapter.data.text_questions import PhraseQuestions
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.steering.text_to_concepts import SUPPRESSED_CONCEPTS
from mllm_adapter.trainer.batches import (
    NO_EASY_VQA,
    NO_OWN,
    NO_TEXTS,
    ConversationSampler,
    EasyVqaMix,
    OwnMix,
    TextMix,
    weight,
)
from mllm_adapter.trainer.conversations import encode_messages
from mllm_adapter.trainer.word_start import WordSamples
from training.data.data_recipe import DataError
from training.loading.samples import held_out_splits, read_samples

log = logging.getLogger(__name__)

_TEMPLATE_TOKENS = 64
"""More than a chat template writes about one message."""


class TrainingData:
    """The images and conversations of a recipe. Codes are computed when they are asked for."""

    def __init__(self, recipe: AdapterRecipe, run: Path) -> None:
        """Reads the data, so that what is bad is found before anything is computed. Raises
        DataError."""
        self._recipe, self._run = recipe, run
        config = recipe.conversations
        self.own: OwnConversations | None = None
        if config.path:
            images = Path(config.images) if config.images else None
            self.own = OwnConversations(Path(config.path), images)
        self._labelled: LabelledImages | None = None
        if recipe.own_share < 1:
            self._labelled = LabelledImages.read(recipe.data.open(), recipe.data.split, run)
        elif self.own is not None:
            self.own.tally.check()
        self.withheld = WithheldWords(Path(recipe.texts.without) if recipe.texts.without else None)
        known = self._labelled.meta if self._labelled else []
        self.meta: list[Mapping[str, Any] | None] = [*map(self.withheld.from_meta, known)]
        """What is known about each image of the pairs, None for one that must not be learned from;
        empty where no pairs are read."""
        if self._labelled and not any(self.meta):
            raise DataError("texts.without: leaves no image to learn from")
        if withheld := self.meta.count(None):
            log.info("texts.without: %d of %d images are left out", withheld, len(self.meta))
        self.phrases = self._read_phrases() if recipe.texts.share else None
        self._concepts: PhraseConcepts | None = None
        self._code_tables: list[CodeTable] | None = None
        """Hundreds of megabytes, which every part of a run reads."""

    def _read_phrases(self) -> PhraseList:
        data, config = self._recipe.data.open(), self._recipe.texts
        splits = held_out_splits(data, self._recipe.data.split)
        held_out = read_samples(data, splits) if splits else {}
        captions = (c for part in held_out.values() for s in part for c in s.meta["captions"])
        return PhraseList.read(config, data.path, self._learned(), captions, self.withheld)

    def _learned(self) -> list[Mapping[str, Any]]:
        return [meta for meta in self.meta if meta is not None]

    def digest(self, bundle: Bundle) -> str:
        """Identifies the phrases and the words that are withheld; empty where there are none."""
        text_graph = bundle.manifest.files["text.onnx"].sha256
        if self.phrases is not None:
            return self.phrases.digest(text_graph, self.withheld)
        return PhraseList().digest("", self.withheld) if len(self.withheld) else ""

    def texts(self) -> list[str]:
        """All words, for a tokenizer to learn from."""
        own = self.own.texts() if self.own else []
        phrases = self.phrases.phrases if self.phrases else []
        return [*Instructions(self._learned()).texts(), *phrases, *own]

    def drop_long(self, build: PromptBuilder, context: int) -> None:
        """Takes conversations out that are longer than the recipe or the LLM's `context` allows.
        Raises DataError when too few are left."""
        if self.own is None:
            return
        most = min(self._recipe.conversations.max_tokens, context)

        def problem(row: Conversation) -> str | None:
            # A token is a byte or more: most rows need not be tokenized.
            letters = sum(len(message.text.encode()) for message in row.messages)
            visual = len(row.images) * build.visual_tokens
            if letters + visual + _TEMPLATE_TOKENS * (len(row.messages) + 1) <= most:
                return None
            longest = max(len(part.ids) for part in encode_messages(row.messages, build))
            return f"more than {most} tokens" if longest > most else None

        self.own.drop(problem)
        self.own.tally.check()
        log.info("%s", self.own.tally.summary())

    def sampler(self, graphs: BackboneGraphs, build: PromptBuilder) -> ConversationSampler:
        """The batches of the run; computes the codes that are not there yet."""
        return ConversationSampler(
            self.meta,
            self._tables(graphs),
            build,
            self._easy_vqa(graphs),
            self._own_mix(graphs),
            texts=self._text_mix(graphs),
            weights=self._recipe.data.weights,
            seed=self._recipe.run.seed,
        )

    def captioned(self, graphs: BackboneGraphs) -> tuple[Sequence[str], CodeTable | None]:
        """Images with a text about each, from which the projector starts."""
        if self._labelled is not None:
            return [m["caption"] if m else "" for m in self.meta], self._tables(graphs)[0]
        own = self._own_images()
        if self.own is None or own is None:
            return [], None
        captions = self.own.captions()
        return [captions.get(name, "") for name in self.own.images], cached_code_table(graphs, own)

    def concepts(self, graphs: BackboneGraphs) -> PhraseConcepts:
        """The strongest concepts of all captions and phrases."""
        if self._concepts is None:
            known = [m["caption"] for m in self.meta if m]
            own = self.own.captions().values() if self.own and not known else ()
            phrases = self.phrases.phrases if self.phrases else ()
            texts = [*dict.fromkeys(filter(None, (*known, *own, *phrases)))]
            top = max(self._recipe.texts.top, SUPPRESSED_CONCEPTS)
            self._concepts = PhraseConcepts.of(texts, graphs, top)
        return self._concepts

    def word_samples(self, graphs: BackboneGraphs, build: PromptBuilder) -> WordSamples:
        """What the projector learns words from."""
        captions, table = self.captioned(graphs)
        tables = self._tables(graphs) or ([table] if table is not None else [])
        weights = [weight(m or {}, self._recipe.data.weights) for m in self.meta]
        return WordSamples(
            captions,
            weights or [1.0] * len(captions),
            tables,
            self.concepts(graphs),
            self._recipe.texts,
            build.answer_ids,
            self._recipe.run.seed,
        )

    def _tables(self, graphs: BackboneGraphs) -> list[CodeTable]:
        if self._labelled is None:
            return []
        if self._code_tables is None:
            data, images = self._recipe.data, self._labelled.collection
            self._code_tables = cached_code_tables(graphs, images, data.views, data.augment)
        return self._code_tables

    def _easy_vqa(self, graphs: BackboneGraphs) -> EasyVqaMix:
        share = self._recipe.data.easy_vqa
        if not share:
            return NO_EASY_VQA
        questions = easy_vqa("train")
        labelled = self._labelled
        folder = labelled.collection.folder if labelled else self._run / CODES_FOLDER
        table = cached_code_table(graphs, shape_images(questions, "train", folder))
        return EasyVqaMix(table, questions.questions, share)

    def _text_mix(self, graphs: BackboneGraphs) -> TextMix:
        if self.phrases is None:
            return NO_TEXTS
        config, [table, *_] = self._recipe.texts, self._tables(graphs)
        phrases = self.phrases.phrases
        concepts = self.concepts(graphs)
        problems = phrase_problems(phrases, concepts.taken(phrases, config.top), graphs)
        self.phrases.drop(problems)
        log.info("texts: %s", self.phrases.summary())
        grid = graphs.bundle.manifest.architecture.grid
        phrases = self.phrases.phrases
        pictures = text_pictures(phrases, concepts, config, table, self.meta, grid)
        questions = PhraseQuestions(phrases, pictures.codes.similar)
        return TextMix(pictures, questions, config.share)

    def _own_images(self) -> ImageCollection | None:
        own = self.own
        if own is None or not own.images:
            return None
        digest = hashlib.sha256("\0".join(own.digest_inputs()).encode("utf-8", "surrogateescape"))
        return ImageCollection(
            source=("conversations", digest.hexdigest()),
            count=len(own.images),
            images=own.decoded,
            folder=self._run / CODES_FOLDER,
        )

    def _own_mix(self, graphs: BackboneGraphs) -> OwnMix:
        if self.own is None:
            return NO_OWN
        images, data = self._own_images(), self._recipe.data
        tables = cached_code_tables(graphs, images, data.views, data.augment) if images else []
        rows = {name: row for row, name in enumerate(self.own.images)}
        return OwnMix(tables, rows, self.own.rows, self._recipe.own_share)
