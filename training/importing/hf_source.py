"""Models of Hugging Face's transformers, from a directory."""

from __future__ import annotations

from training.huggingface.hf_directory import HFDirectory
from training.huggingface.model_error import ModelImportError
from training.importing.base import ImportedModel, ModelSource, SourceOptions, with_home

HF_FAMILIES = ("clip", "metaclip_2", "siglip", "siglip2")
"""What config.json's model_type may be."""


class HFSource(ModelSource):
    """`PATH`, a directory with config.json, safetensors, a processor and a tokenizer.

    Nothing is fetched, and no code of a directory is run.
    """

    def label(self, rest: str) -> str:
        """See ModelSource."""
        return with_home(rest).resolve().name

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        if options.weights is not None:
            raise ModelImportError("--weights: a directory of Hugging Face has its own")
        if not rest:
            raise ModelImportError("SOURCE: hf: name a folder, hf:PATH")
        directory = HFDirectory.open(with_home(rest), what="SOURCE: hf", has_images=True)
        kind = directory.config.get("model_type")
        if kind not in HF_FAMILIES:
            raise ModelImportError(
                f"config.json: model_type: {kind!r} is none of {', '.join(HF_FAMILIES)}"
            )
        # Imported here, because a directory is refused before the seconds that torch takes.
        from training.importing._hf_model import import_directory

        return import_directory(directory, str(kind))
