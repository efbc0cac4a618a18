"""Dense models that were trained here: the folder of a run, or of one of its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.huggingface.model_error import ModelImportError
from training.importing._open_clip_reference import OpenClipReference
from training.importing.base import ImportedModel, ModelSource, SourceOptions, with_home

if TYPE_CHECKING:
    from training.evaluation.encoder import CheckpointEncoder


class RunSource(ModelSource):
    """A run whose recipe has `model.relu: false`. `bundle export` takes those with a ReLU."""

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        if options.weights is not None:
            raise ModelImportError("--weights: a run has weights of its own")
        path = with_home(rest)
        if not (path / "state.json").is_file() and not (path / "checkpoints").is_dir():
            raise ModelImportError("SOURCE: run: no folder of a run or a checkpoint")
        from importlib.metadata import version

        from training.core.checkpoint import CheckpointError, find_checkpoint
        from training.data.data_recipe import DataError
        from training.evaluation.encoder import CheckpointEncoder
        from training.huggingface.stored_weights import weights_digest
        from training.importing._run_towers import image_encoder, patch_encoder, text_encoder
        from training.model.sentence_tower import SentenceTower

        try:
            checkpoint = find_checkpoint(path)
            encoder = CheckpointEncoder(checkpoint)
        except (CheckpointError, DataError) as error:
            raise ModelImportError(f"run: {error}") from None
        model = encoder.model.float().eval().requires_grad_(False)
        if model.config.relu:
            raise ModelImportError("run: is a sparse model; `sparseclip bundle export` takes it")
        average = checkpoint / "average.safetensors"
        weights = average if average.is_file() else checkpoint / "model.safetensors"
        text = model.text
        origin = text.description.origin if isinstance(text, SentenceTower) else None
        return ImportedModel(
            family=f"open_clip:{model.config.name or 'custom'}",
            library=f"sparseclip {version('sparseclip')}",
            image=image_encoder(model),
            text=text_encoder(model),
            patches=patch_encoder(model),
            patch_grid=model.patch_grid,
            preprocessing=encoder.preprocess.preprocessing,
            tokenization=encoder.tokenizer.tokenization,
            write_tokenizer=encoder.tokenizer.write,
            context_length=model.text.context_length,
            vocabulary=model.text.vocabulary,
            logit_scale=float(model.scale),
            weights_sha256=weights_digest([weights]),
            text_encoder=origin,
            reference=_reference(encoder),
        )

    def label(self, rest: str) -> str:
        """See ModelSource."""
        return with_home(rest).resolve().name


def _reference(encoder: CheckpointEncoder) -> OpenClipReference:
    """The checkpoint as it is evaluated, with open_clip's own transform, and the tokenizer of the
    library that it is from."""
    from training.core.torchvision_compat import open_clip

    p, model = encoder.preprocess.preprocessing, encoder.model
    return OpenClipReference(
        open_clip().transform.PreprocessCfg(size=p.size, mean=p.mean, std=p.std),
        encoder.tokenizer.library_rows,
        lambda pixels: model.encode_image(pixels).codes,
        lambda tokens: model.encode_text(tokens).codes,
    )
