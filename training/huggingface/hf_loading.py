"""What transformers reads from a directory: its errors in one line, and exactly the weights of its
files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from training.core.torchvision_compat import transformers
from training.huggingface.hf_directory import HFDirectory
from training.huggingface.model_error import ModelImportError

MOST_BEYOND_FILES = 4
"""How many times as many weights as the files hold a configuration may describe. A model that lacks
some is refused by the name of one."""


def read_part(what: str, loader: Any, directory: HFDirectory, **options: str) -> Any:
    """What a class of the library reads from the directory; its errors in one line."""
    try:
        return loader.from_pretrained(str(directory.path), local_files_only=True, **options)
    except Exception as error:  # damaged files raise anything
        raise ModelImportError(f"{what}: transformers cannot read it") from error


def check_size(cls: Any, directory: HFDirectory) -> None:
    """Raises ModelImportError for a configuration of a far larger model than its files hold, before
    memory is taken for it. `cls` is a class of the library, or AutoModel."""
    stored = directory.stored.numbers
    is_auto = not hasattr(cls, "config_class")
    config_class = transformers().AutoConfig if is_auto else cls.config_class
    try:
        config = config_class.from_pretrained(str(directory.path), local_files_only=True)
        with torch.device("meta"):
            model = cls.from_config(config) if is_auto else cls(config)
    except Exception as error:  # a constructor raises anything for numbers that do not fit
        raise ModelImportError("config.json: transformers refuses it") from error
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > MOST_BEYOND_FILES * stored:
        raise ModelImportError(
            f"weights: hold {stored:,} numbers, config.json describes {described:,}"
        )


def load_model(
    cls: Any,
    directory: HFDirectory,
    *,
    attention: str | None = "sdpa",
    without: tuple[str, ...] = (),
) -> Any:
    """The library's model in float32, with exactly the weights of the files.

    An `attention` of None is what the library takes for the model. Weights whose names begin with
    one of `without` are not used: they may be missing, or too many. Raises ModelImportError.
    """
    try:
        model, report = cls.from_pretrained(
            str(directory.path),
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=attention,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # damaged files raise anything
        raise ModelImportError("weights: transformers cannot read them") from error
    missing = set(report["missing_keys"]) - {"logit_bias"}
    unknown = {name for name in report["unexpected_keys"] if not name.endswith("position_ids")}
    for names, problem in (
        (missing, "is missing"),
        (
            {entry[0] for entry in report["mismatched_keys"]},
            "has another shape than config.json says",
        ),
        (unknown, "is not a tensor of this architecture"),
    ):
        if used := {name for name in names if not name.startswith(without)}:
            raise ModelImportError(f"weights: {min(used)} {problem}")
    if "logit_bias" in report["missing_keys"]:
        model.logit_bias.data.zero_()
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelImportError(f"weights: {name} holds numbers that are not finite")
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences the library, which reports what is checked here."""
    logging = transformers().utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
