"""What a model gives by open_clip's own code, with which an import is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class OpenClipReference:
    """open_clip's own transform and tokenizer, and a model that was trained with them."""

    def __init__(
        self,
        transform: Any,
        tokenizer: Any,
        encode_image: Callable[[Any], Any],
        encode_text: Callable[[Any], Any],
    ) -> None:
        """`transform` is open_clip's PreprocessCfg. The functions give tensors (B, D)."""
        from training.core.torchvision_compat import open_clip

        self._transform = open_clip().transform.image_transform_v2(transform, is_train=False)
        self._tokenizer = tokenizer
        self._encode_image, self._encode_text = encode_image, encode_text

    def pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """See Reference."""
        return np.stack([self._transform(image).numpy() for image in images])

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """See Reference."""
        ids: NDArray[np.int64] = self._tokenizer(list(texts)).numpy()
        return ids

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Reference."""
        return _run(self._encode_image, pixels)

    def texts(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See Reference."""
        return _run(self._encode_text, tokens)


def _run(encode: Callable[[Any], Any], array: NDArray[Any]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        result: NDArray[np.float32] = encode(torch.from_numpy(array)).numpy()
    return result
