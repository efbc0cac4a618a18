"""Dense models that were trained here: the folder of a run, or of one of its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Tokenization
from training.importing.base import (
    ImportedModel,
    ModelImportError,
    ModelSource,
    SourceOptions,
)

if TYPE_CHECKING:
    from PIL import Image

    from training.evaluation.encoder import CheckpointEncoder


class RunSource(ModelSource):
    """A run whose recipe has `model.relu: false`. `bundle export` takes those with a ReLU."""

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        if options.weights is not None:
            raise ModelImportError("--weights: a run has weights of its own")
        path = Path(rest)
        if not (path / "state.json").is_file() and not (path / "checkpoints").is_dir():
            raise ModelImportError("run: no folder of a run or a checkpoint")
        from importlib.metadata import version

        from training.core.checkpoint import CheckpointError, find_checkpoint
        from training.evaluation.encoder import CheckpointEncoder
        from training.importing._run_towers import image_encoder, patch_encoder, text_encoder
        from training.importing._weight_files import weights_digest
        from training.model.tokenizer import write_tokenizer_json

        try:
            checkpoint = find_checkpoint(path)
            encoder = CheckpointEncoder(checkpoint)
        except CheckpointError as error:
            raise ModelImportError(f"run: {error}") from None
        model = encoder.model.float().eval().requires_grad_(False)
        if model.config.relu:
            raise ModelImportError("run: is a sparse model; `sparseclip bundle export` takes it")
        average = checkpoint / "average.safetensors"
        weights = average if average.is_file() else checkpoint / "model.safetensors"
        return ImportedModel(
            family=f"open_clip:{model.config.name or 'custom'}",
            library=f"sparseclip {version('sparseclip')}",
            image=image_encoder(model),
            text=text_encoder(model),
            patches=patch_encoder(model),
            patch_grid=model.patch_grid,
            preprocessing=encoder.preprocess.preprocessing,
            tokenization=Tokenization(kind="clip_bpe"),
            write_tokenizer=lambda path: write_tokenizer_json(encoder.tokenizer.source, path),
            context_length=model.text.context_length,
            vocabulary=model.text.vocabulary,
            logit_scale=float(model.scale),
            weights_sha256=weights_digest([weights]),
            reference=RunReference(encoder),
        )

    def label(self, rest: str) -> str:
        """See ModelSource."""
        return Path(rest).resolve().name


class RunReference:
    """The checkpoint as it is evaluated, with open_clip's own transform and tokenizer, by which it
    was trained."""

    def __init__(self, encoder: CheckpointEncoder) -> None:
        from training.core.torchvision_compat import open_clip

        transform, p = open_clip().transform, encoder.preprocess.preprocessing
        cfg = transform.PreprocessCfg(size=p.size, mean=p.mean, std=p.std)
        self._transform = transform.image_transform_v2(cfg, is_train=False)
        self._model, self._tokenizer = encoder.model, encoder.tokenizer.source

    def pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """See Reference."""
        return np.stack([self._transform(image).numpy() for image in images])

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """See Reference."""
        ids: NDArray[np.int64] = self._tokenizer(list(texts)).numpy()
        return ids

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Reference."""
        return self._run(self._model.encode_image, pixels)

    def texts(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See Reference."""
        return self._run(self._model.encode_text, tokens)

    def _run(self, encode: Any, array: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            result: NDArray[np.float32] = encode(torch.from_numpy(array)).codes.numpy()
        return result
