"""What a bundle says of its concepts and images by the training data: names and captions.

N images, V words, C concepts.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import sparse

from bundle.captions import CAPTIONS_FILE, write_captions
from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.store import open_bundle, vacant_version, write_bundle
from training.bundling.bundle_writer import CaptionCodes
from training.bundling.model_card import with_names
from training.bundling.name_vocabulary import (
    MAX_WORD_CHARACTERS,
    MAX_WORDS,
    NameVocabulary,
    read_vocabulary,
)
from training.data.data_recipe import DataError
from training.data.words import WORDS_FILE
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.encoder import BundleEncoder, CodeMatrix, Encoder, encode_all
from training.evaluation.evaluate import EncodedSplit, encode_splits
from training.evaluation.name_trials import words_of
from training.loading.pair_data import TRAIN, PairData
from training.loading.samples import as_pair_data

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class NamingConfig:
    """The concepts of which bundle to name again, by which data, and where the result goes."""

    bundle: Path
    data: Path | PairData
    """Data of any kind that training takes."""
    models_dir: Path
    version: str
    split: str = TRAIN
    """Images that were trained on. Held-out images could then not tell how good the names are."""
    vocabulary: NameVocabulary | None = None
    """Words that may become names beside the captions and keywords; None for the data set's own."""
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
    data = as_pair_data(config.data)
    [split] = encode_splits(encoder, data, [config.split], trained=config.split)
    named = named_by(encoder, split, words_of_data(data), config.vocabulary)
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
    encoder: Encoder,
    split: EncodedSplit,
    dictionary: Sequence[str] = (),
    vocabulary: NameVocabulary | None = None,
) -> list[NamedConcept]:
    """Names the concepts by the captions and keywords of at most two words of a split's images, and
    by the words of a user's vocabulary, or else of a dictionary. The split must have been trained
    on. Of a vocabulary, an image is tagged with the words and phrases that its captions hold.

    Raises DataError when there is nothing that could be a name.
    """
    own = () if vocabulary is None else vocabulary.words
    words = vocabulary_of(split, own or dictionary)
    if not words:
        raise DataError(f"vocabulary: {split.name} has no captions and no words; name a file")
    parts: list[sparse.csr_array] = []  # the dense codes of all words would take gigabytes

    def encode(texts: list[str]) -> CodeMatrix:
        codes = encoder.texts(texts)
        parts.append(sparse.csr_array(codes))
        return codes[:, :0]

    encode_all(encode, words, len(words), "words")
    codes = sparse.vstack(parts, format="csr")
    return name_concepts(words, codes, image_codes_of(split, own))


def vocabulary_of(split: EncodedSplit, dictionary: Sequence[str]) -> list[str]:
    """The words that may become names: V of them, each once. Captions as they are, where they have
    no words."""
    tags = [tag for sample in split.samples for tag in sorted(_tags(sample.meta))]
    captions = [str(sample.meta["caption"])[:MAX_WORD_CHARACTERS] for sample in split.samples]
    return list(dict.fromkeys([*tags, *dictionary] or filter(None, captions[:MAX_WORDS])))


def image_codes_of(split: EncodedSplit, vocabulary: Sequence[str] = ()) -> ImageCodes:
    """What names are fitted on. An image is tagged with the words and phrases of a user's
    vocabulary that its captions hold."""
    metas = [sample.meta for sample in split.samples]
    known = _PhraseFinder(vocabulary)
    return ImageCodes(
        codes=split.codes,
        sources=[f"{meta['set']}/{meta['name']}" for meta in metas],
        tags=[_tags(meta) | known.within(meta["captions"]) for meta in metas],
        words=[words_of(meta) for meta in metas],
    )


def captions_of(encoder: Encoder, split: EncodedSplit) -> CaptionCodes:
    """The captions of a split's images."""
    texts = list(dict.fromkeys(str(sample.meta["caption"]) for sample in split.samples))
    return CaptionCodes(texts=texts, codes=encode_all(encoder.texts, texts, len(texts), "captions"))


def words_of_data(data: PairData) -> list[str]:
    """The words of a data set that `sparseclip data build` wrote; none of a user's own data."""
    return words_file(data.path) if data.is_built else []


def words_file(data: Path) -> list[str]:
    """The words in the folder of a data set; none where there is no file. Raises DataError."""
    path = data / WORDS_FILE
    return list(read_vocabulary(path, "words").words) if path.is_file() else []


def _tags(meta: Mapping[str, Any]) -> set[str]:
    tags = {str(w).lower() for w in (meta["caption"], *meta["keywords"])}
    return {tag for tag in tags if tag and tag.count(" ") <= 1}


class _PhraseFinder:
    """Finds words and phrases in captions."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = {tuple(_WORD.findall(phrase)): phrase for phrase in phrases}
        self._lengths = sorted({len(words) for words in self._phrases} - {0})

    def within(self, captions: Sequence[str]) -> set[str]:
        """The phrases that stand in some captions."""
        found = set()
        for words in (_WORD.findall(caption.lower()) for caption in captions if self._lengths):
            for length in self._lengths:
                for start in range(len(words) - length + 1):
                    phrase = self._phrases.get(tuple(words[start : start + length]))
                    if phrase is not None:
                        found.add(phrase)
        return found
