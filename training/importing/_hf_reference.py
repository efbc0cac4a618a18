"""Hugging Face's own processor, tokenizer and model. N inputs, T tokens, S image side, D width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.importing._hf_towers import embedding

_BATCH_SIZE = 8


class HFReference:
    """See training.importing.base.Reference."""

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, context_length: int, size: int
    ) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer
        self.context_length, self.size = context_length, size
        self._masks: dict[bytes, NDArray[np.int64]] = {}

    def pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(N, 3, S, S). A processor that converts no grey image, as that of SigLIP 2, gets RGB."""
        if not getattr(self.processor, "do_convert_rgb", None):
            images = [image.convert("RGB") for image in images]
        rows = [
            np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"])[0]
            for image in images
        ]
        return np.stack(rows).astype(np.float32)

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(N, T). Keeps the masks that the tokenizer gives beside, for `texts`."""
        rows = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.context_length
        )
        ids = np.asarray(rows["input_ids"], dtype=np.int64)
        for row, mask in zip(ids, rows.get("attention_mask", ()), strict=False):
            self._masks[row.tobytes()] = np.asarray(mask, dtype=np.int64)
        return ids

    @torch.no_grad()
    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D)."""
        rows = [embedding(self._image_features(torch.from_numpy(x))) for x in _batches(pixels)]
        return torch.cat(rows).numpy()

    @torch.no_grad()
    def texts(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, D), with the masks of rows that `tokens` gave."""
        features = []
        for x in _batches(tokens):
            masks = [self._masks.get(row.tobytes()) for row in x]
            inputs = {"input_ids": torch.from_numpy(x)}
            if all(mask is not None for mask in masks):
                inputs["attention_mask"] = torch.from_numpy(np.stack(masks))  # type: ignore[arg-type]
            features.append(embedding(self.model.get_text_features(**inputs)))
        return torch.cat(features).numpy()

    def _image_features(self, pixels: torch.Tensor) -> Any:
        return self.model.get_image_features(pixel_values=pixels)


class NaFlexReference(HFReference):
    """The same of SigLIP 2's NaFlex model, on squares.

    Its own processor keeps an image's shape. Images that are no squares are squashed by that of the
    model's fixed-resolution sisters.
    """

    def pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(N, 3, S, S)."""
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        squash = SiglipImageProcessorPil(
            size={"height": self.size, "width": self.size},
            resample=self.processor.resample,
            image_mean=self.processor.image_mean,
            image_std=self.processor.image_std,
        )
        rows = []
        for image in (image.convert("RGB") for image in images):
            if image.width != image.height:
                rows.append(squash(images=image, return_tensors="np")["pixel_values"][0])
                continue
            values = self.processor(images=image, return_tensors="np")["pixel_values"][0]
            side, patch = self._grid()
            cells = values[: side * side].reshape(side, side, patch, patch, 3)
            rows.append(cells.transpose(4, 0, 2, 1, 3).reshape(3, self.size, self.size))
        return np.stack(rows).astype(np.float32)

    def _image_features(self, pixels: torch.Tensor) -> Any:
        from transformers.models.siglip2 import image_processing_siglip2 as processing

        side, patch = self._grid()
        patches = [processing.convert_image_to_patches(image, patch) for image in pixels]
        padded = [
            processing.pad_along_first_dim(rows, self.processor.max_num_patches) for rows in patches
        ]
        return self.model.get_image_features(
            pixel_values=torch.stack([rows for rows, _ in padded]),
            pixel_attention_mask=torch.stack([mask for _, mask in padded]),
            spatial_shapes=torch.tensor([[side, side]] * len(pixels)),
        )

    def _grid(self) -> tuple[int, int]:
        patch = int(self.model.config.vision_config.patch_size)
        return self.size // patch, patch


def _batches(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), _BATCH_SIZE):
        yield rows[start : start + _BATCH_SIZE]
