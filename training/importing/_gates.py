"""What an imported model must equal: the source library's pixels, tokens and vectors.

B batch, P patches, T tokens, S image side, D width of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.manifest import Parity
from bundle.onnx_graph import GraphName, OnnxGraph, import_onnxruntime
from bundle.preprocessor import Preprocessor
from bundle.text import Cleaning, TextError, clean_text, without_ignorable
from bundle.tokenizer import Tokenizer
from training.bundling.onnx_parity import Array, row_cosines
from training.huggingface.model_error import ModelImportError
from training.importing._golden_inputs import CORPUS, PROMPTS, golden_images
from training.importing.base import ImportedModel

MAX_PIXEL_ERROR = 1 / 255
"""Of a pixel in [0, 1] before normalising: one step of the 8 bits that a decoded image has."""

MAX_BEYOND = 1e-4
"""The share of values that may differ by more. Images are resized in two passes, and each library
rounds between them in a way of its own. At hard edges it also shows which pass is the first, and
Pillow 13 does not always begin with rows."""

MIN_COSINE = 0.9999
"""Of a vector in float32 and the source library's own."""

MIN_HALF_COSINE = 0.999
"""The same with weights rounded to float16."""

MIN_VOCABULARY = 0.9
"""The share of a text tower's ids that its tokenizer has, at least. Towers have a few more, up to a
round number."""

_BATCH_SIZE = 5  # does not divide the number of golden inputs, so that two sizes are run


class Golden(NamedTuple):
    """Golden inputs, and what the source library makes of them."""

    library_pixels: NDArray[np.float32]
    """(B, 3, S, S) by the library's processor."""
    pixels: NDArray[np.float32]
    """(B, 3, S, S) by the bundle's preprocessor."""
    tokens: NDArray[np.int64]
    """(B, T), of which both tokenizers are known to give the same."""
    image_dense: NDArray[np.float32]
    """(B, D)."""
    text_dense: NDArray[np.float32]
    """(B, D)."""
    patch_dense: NDArray[np.float32] | None
    """(B, P, D) by the torch module; None without patches."""
    max_pixel_error: float


def golden(model: ImportedModel, tokenizer: Tokenizer) -> Golden:
    """The golden inputs of a model. Raises ModelImportError when more than MAX_BEYOND of the pixels
    differ by more than MAX_PIXEL_ERROR, or vectors are not of one width, or not finite."""
    reference, images = model.reference, golden_images()
    preprocess = Preprocessor(model.preprocessing)
    pixels = np.stack([preprocess(image) for image in images])
    try:
        library_pixels = np.stack([reference.pixels([image])[0] for image in images])
    except Exception as failure:  # its settings are the model's, and may be any
        raise ModelImportError("pixels: the library's own processor reads no images") from failure
    if library_pixels.shape != pixels.shape:
        raise ModelImportError("pixels: the library's processor gives another shape")
    std = np.asarray(model.preprocessing.std, dtype=np.float32)[:, None, None]
    errors = np.abs(pixels - library_pixels) * std
    error = float(errors.max())
    beyond = float((errors > MAX_PIXEL_ERROR + 1e-5).mean())
    if not (np.isfinite(error) and beyond <= MAX_BEYOND):
        raise ModelImportError(
            f"pixels: differ by {error * 255:.1f}/255 from the library's own processor"
        )
    tokens = tokenizer.encode(PROMPTS)
    image_dense = _batched(reference.images, library_pixels)
    text_dense = _batched(reference.texts, tokens)
    patch_dense = None
    if model.patches is not None:
        patches = model.patches
        patch_dense = _batched(lambda x: patches(torch.from_numpy(x))[1].numpy(), library_pixels)
    for name, vectors in (("image", image_dense), ("text", text_dense)):
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ModelImportError(f"{name}: the library's model gives no vectors of numbers")
        if not np.linalg.norm(vectors, axis=1).all():
            raise ModelImportError(f"{name}: the library's model gives vectors of length 0")
    if image_dense.shape[1] != text_dense.shape[1]:
        raise ModelImportError("embed_dim: images and texts have vectors of different widths")
    return Golden(
        library_pixels, pixels, tokens, image_dense, text_dense, patch_dense, min(error, 1.0)
    )


def check_tokens(model: ImportedModel, tokenizer: Tokenizer, texts: Sequence[str] = CORPUS) -> int:
    """Compares token ids with those of the source library. Returns how many rows were compared.

    A bundle drops characters that Unicode says to ignore before a cleaned text is read, so they are
    dropped here for both. It refuses a text that is empty after its cleaning, such as `...` for
    SigLIP; such texts are left out. Raises ModelImportError for the first text that differs, and
    for a tokenizer with ids that the text tower does not have, or with far fewer.
    """
    if tokenizer.vocabulary > model.vocabulary:
        raise ModelImportError(
            f"tokenizer: has {tokenizer.vocabulary} ids, the text tower {model.vocabulary}"
        )
    if model.tokenization.kind == "clip_bpe" and tokenizer.vocabulary != model.vocabulary:
        raise ModelImportError(
            f"tokenizer: CLIP's has {tokenizer.vocabulary} ids, the text tower {model.vocabulary}"
        )
    if tokenizer.vocabulary < MIN_VOCABULARY * model.vocabulary:
        raise ModelImportError(
            f"tokenizer: has {tokenizer.vocabulary} ids, the text tower {model.vocabulary}: it"
            " belongs to other weights"
        )
    if model.tokenization.cleaning != "none":
        texts = [without_ignorable(text) for text in texts]
    texts = [text for text in texts if _is_read(text, model.tokenization.cleaning)]
    expected, actual = model.reference.tokens(texts), tokenizer.encode(texts)
    if expected.shape != actual.shape:
        raise ModelImportError(f"tokens: rows of {expected.shape[1]}, not {actual.shape[1]}")
    different = np.flatnonzero((expected != actual).any(axis=1))
    if different.size:
        text = ascii(texts[int(different[0])])
        raise ModelImportError(f"tokens: differ from the library's own for {text[:60]}")
    return len(texts)


def _is_read(text: str, cleaning: Cleaning) -> bool:
    try:
        clean_text(text, cleaning)
    except TextError:
        return False
    return True


def check_graph(path: Path, graph: GraphName, given: Golden, *, half: bool) -> GraphChecks:
    """Compares a written graph with the source library's vectors, over two sizes of a batch.

    Raises ModelImportError for a cosine below MIN_COSINE, or MIN_HALF_COSINE with `half`.
    """
    onnx, minimum = OnnxGraph(path, graph, sparse=False), MIN_HALF_COSINE if half else MIN_COSINE
    expected = given.text_dense if graph == "text" else given.image_dense
    inputs = given.tokens if graph == "text" else given.library_pixels
    tally, served = _Tally(), _Tally()
    for rows in _slices(len(inputs)):
        outputs = onnx.run(inputs[rows])
        tally.add(expected[rows], outputs["dense"])
        if graph == "patches" and given.patch_dense is not None:
            width = expected.shape[1]
            patches = given.patch_dense[rows].reshape(-1, width)
            tally.add(patches, outputs["patch_dense"].reshape(-1, width))
        if graph == "image":
            served.add(expected[rows], onnx.run(given.pixels[rows])["dense"])
    if graph != "image":
        served = tally
    for figure in (tally.cosine, served.cosine):
        if not figure >= minimum:  # NaN fails, too
            raise ModelImportError(
                f"{graph}.onnx: cosine {figure:.6f} to the library's own model, at least {minimum}"
            )
    return GraphChecks(tally.parity(), served.cosine)


class GraphChecks(NamedTuple):
    """How near a graph is to the source library."""

    parity: Parity
    """On the same pixels, or tokens."""
    served_cosine: float
    """The lowest cosine when the bundle's own preprocessor makes the pixels."""


@dataclass
class _Tally:
    items: int = 0
    cosine: float = 1.0
    error: float = 0.0
    runtime: str = field(default_factory=lambda: str(import_onnxruntime().__version__))

    def add(self, expected: Array, actual: Array) -> None:
        """Compares rows (B, D)."""
        self.items += len(expected)
        self.cosine = float(np.minimum(self.cosine, row_cosines(expected, actual).min()))
        self.error = float(np.maximum(self.error, np.abs(expected - actual).max()))

    def parity(self) -> Parity:
        return Parity(
            items=self.items,
            min_cosine=self.cosine,
            min_support_jaccard=None,
            max_abs_error=self.error,
            runtime=f"onnxruntime {self.runtime} CPU",
        )


def _batched(encode: Callable[[Array], Array], inputs: Array) -> Array:
    with torch.inference_mode():
        return np.concatenate([encode(inputs[rows]) for rows in _slices(len(inputs))])


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH_SIZE) for start in range(0, count, _BATCH_SIZE))
