"""One interface to encode images and texts by a checkpoint or a bundle. B batch, C concepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.image import DecodedImage
from bundle.preprocessor import Preprocessor
from bundle.progress import show_progress

if TYPE_CHECKING:
    from torch import Tensor

CodeMatrix = NDArray[np.float32]
"""Dense codes, (B, C)."""


class Encoder(Protocol):
    """Images and texts to un-normalised codes (B, C), dense and in float32."""

    name: str

    @property
    def preprocess(self) -> Preprocessor:
        """Makes the pixels of `images`."""
        ...

    def images(self, images: Sequence[Image.Image | DecodedImage]) -> CodeMatrix:
        """Codes of images of any mode; transparency is composed onto the background."""
        ...

    def texts(self, texts: Sequence[str]) -> CodeMatrix:
        """Codes of texts."""
        ...


class BundleEncoder:
    """The graphs of a bundle in ONNX Runtime, as they are served."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Raises BundleError, also for a dense bundle, which has no codes."""
        from bundle.manifest import NO_CONCEPTS
        from bundle.onnx_graph import OnnxGraph
        from bundle.store import BundleError, open_bundle

        self.bundle = open_bundle(path)
        manifest = self.bundle.manifest
        self.name = f"{manifest.name}/{manifest.version}"
        if not self.bundle.is_sparse:
            raise BundleError(f"{self.name}: {NO_CONCEPTS}")
        self.concepts = manifest.architecture.concepts
        self.text_encoder = manifest.architecture.text_encoder_sha256
        """The digest of the sentence encoder on which the text tower stands; empty for none."""
        self.preprocess: Preprocessor = self.bundle.preprocessor
        self._image = OnnxGraph(self.bundle.file("image.onnx"), "image", threads=threads)
        self._text = OnnxGraph(self.bundle.file("text.onnx"), "text", threads=threads)

    def images(self, images: Sequence[Image.Image | DecodedImage]) -> CodeMatrix:
        """Codes of images."""
        pixels = np.stack([self.preprocess(image) for image in images])
        return self._image.codes(pixels, self.concepts)

    def texts(self, texts: Sequence[str]) -> CodeMatrix:
        """Codes of texts."""
        return self._text.codes(self.bundle.tokenizer.encode(texts), self.concepts)


class CheckpointEncoder:
    """The torch model of a checkpoint, in float32."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from training.model.pixels import preprocessing
        from training.model.sentence_tower import SentenceTower
        from training.model.tokenizer import CaptionTokenizer
        from training.trainer.trained_model import load_model

        self.model, self.recipe = load_model(path)
        self.model.to(device)
        if self.recipe.loop.channels_last:
            self.model.image.channels_last()
        self.device = device
        self.name = f"{self.recipe.name}/{path.name}"
        self.tokenizer = CaptionTokenizer.of_model(self.model)
        text = self.model.text
        self.text_encoder = ""
        if isinstance(text, SentenceTower):
            self.text_encoder = text.description.weights_sha256
        """See BundleEncoder."""
        self.preprocess: Preprocessor = Preprocessor(preprocessing(self.model.image.image_size))

    def images(self, images: Sequence[Image.Image | DecodedImage]) -> CodeMatrix:
        """Codes of images."""
        return self._codes(self.model.encode_image, self.pixels(images))

    def pixels(self, images: Sequence[Image.Image | DecodedImage]) -> Tensor:
        """What the image tower reads, (B, 3, S, S)."""
        import torch

        pixels = np.stack([self.preprocess(image) for image in images])
        return torch.from_numpy(pixels).to(self.device)

    def texts(self, texts: Sequence[str]) -> CodeMatrix:
        """Codes of texts."""
        return self._codes(self.model.encode_text, self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """What the text tower reads, (B, T)."""
        import torch

        return torch.from_numpy(self.tokenizer.reader.encode(texts)).to(self.device)

    def _codes(self, encode: Any, batch: Tensor) -> CodeMatrix:
        import torch

        with torch.inference_mode():
            codes = encode(batch).codes
        result: CodeMatrix = codes.float().cpu().numpy()
        return result


def open_encoder(path: Path) -> BundleEncoder | CheckpointEncoder:
    """Opens a bundle (a version or a model folder) or a checkpoint (or a run's folder).

    Raises BundleError or CheckpointError.
    """
    from bundle.store import why_no_bundle
    from training.core.checkpoint import CheckpointError, find_checkpoint

    if why_no_bundle(path) is None:
        return BundleEncoder(path)
    try:
        find_checkpoint(path)
    except CheckpointError:
        problem = "neither a bundle (manifest.json or CURRENT) nor a run or a checkpoint"
        raise CheckpointError(f"{path.name}: {problem}") from None
    return CheckpointEncoder(path)


def encode_all(
    encode: Callable[[list[Any]], CodeMatrix],
    items: Iterable[Any],
    count: int,
    kind: str,
    batch_size: int = 64,
) -> CodeMatrix:
    """Encodes `count` items to codes (N, C), with a progress bar that names their `kind`."""
    codes = []
    with show_progress("encoding", count, kind) as advance:
        iterator = iter(items)
        while batch := list(islice(iterator, batch_size)):
            codes.append(encode(batch))
            advance(len(batch))
    return np.concatenate(codes)
