"""What a bundle says of its concepts and images by the training data: names and captions.

N images, V words, C concepts.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.captions import CAPTIONS_FILE, write_captions
from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.store import open_bundle, vacant_version, write_bundle
from training.bundling.bundle_writer import CaptionCodes
from training.bundling.model_card import with_names
from training.data.words import WORDS_FILE
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.encoder import BundleEncoder, Encoder, encode_all
from training.evaluation.evaluate import EncodedSplit, encode_splits
from training.evaluation.name_trials import words_of
from training.loading.pair_data import TRAIN


@dataclass(frozen=True, kw_only=True)
class NamingConfig:
    """The concepts of which bundle to name again, by which data, and where the result goes."""

    bundle: Path
    data: Path
    """Data of any kind that training takes."""
    models_dir: Path
    version: str
    split: str = TRAIN
    """Images that were trained on. Held-out images could then not tell how good the names are."""
    words: Path | None = None
    """A file of words, one a line, that may become names beside the captions and keywords; None for
    the data set's own."""
    card: Path | None = None
    """The card of the new version; None for the old one with another heading and section on names.
    """


def name_again(config: NamingConfig) -> Path:
    """Writes a version of a bundle whose names and captions are those of a data set, and returns
    its folder. All else is as it was; clarity stays, since it depends on codes alone.

    Raises DataError or BundleError, and then leaves nothing behind.
    """
    source = open_bundle(config.bundle)
    vacant_version(config.models_dir, source.manifest.name, config.version)
    encoder = BundleEncoder(config.bundle)
    [split] = encode_splits(encoder, config.data, [config.split], trained=config.split)
    named = named_by(encoder, split, words_file(config.data, config.words))
    old = source.concepts.concepts
    concepts = [dataclasses.replace(c, clarity=old[c.id].clarity) for c in named]
    captions = captions_of(encoder, split)
    card = (config.card or source.file("CARD.md")).read_text(encoding="utf-8")

    def fill(folder: Path) -> None:
        for name in source.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.root / name, folder / name)
        ConceptVocabulary.write(folder / "concepts.jsonl", concepts)
        write_captions(folder / CAPTIONS_FILE, captions.texts, captions.codes)
        heading = f"{source.manifest.name} {config.version}"
        (folder / "CARD.md").write_text(with_names(card, heading, concepts), encoding="utf-8")

    manifest = dataclasses.replace(source.manifest, version=config.version)
    return write_bundle(config.models_dir, manifest, fill)


def named_by(
    encoder: Encoder, split: EncodedSplit, dictionary: Sequence[str] = ()
) -> list[NamedConcept]:
    """Names the concepts by the captions and keywords of at most two words of a split's images, and
    by the words of a dictionary. The split must have been trained on."""
    words = vocabulary_of(split, dictionary)
    codes = encode_all(encoder.texts, words, len(words), "words")
    return name_concepts(words, codes, image_codes_of(split))


def vocabulary_of(split: EncodedSplit, dictionary: Sequence[str]) -> list[str]:
    """The words that may become names: V of them, each once."""
    tags = [tag for sample in split.samples for tag in sorted(_tags(sample.meta))]
    return list(dict.fromkeys([*tags, *dictionary]))


def image_codes_of(split: EncodedSplit) -> ImageCodes:
    """What names are fitted on."""
    metas = [sample.meta for sample in split.samples]
    return ImageCodes(
        codes=split.codes,
        sources=[f"{meta['set']}/{meta['name']}" for meta in metas],
        tags=[_tags(meta) for meta in metas],
        words=[words_of(meta) for meta in metas],
    )


def captions_of(encoder: Encoder, split: EncodedSplit) -> CaptionCodes:
    """The captions of a split's images."""
    texts = list(dict.fromkeys(str(sample.meta["caption"]) for sample in split.samples))
    return CaptionCodes(texts=texts, codes=encode_all(encoder.texts, texts, len(texts), "captions"))


def words_file(data: Path, path: Path | None = None) -> list[str]:
    """The words of a file, in lower case, or those of a data set. None where there is no file."""
    path = path or data / WORDS_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [word for line in lines if (word := " ".join(line.lower().split()))]


def _tags(meta: Mapping[str, Any]) -> set[str]:
    tags = {str(w).lower() for w in (meta["caption"], *meta["keywords"])}
    return {tag for tag in tags if tag.count(" ") <= 1}
