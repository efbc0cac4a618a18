"""The module of a SparseEncoder that runs a bundle. B batch, C concepts, S image side, T tokens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules import InputModule

from bundle.concepts import ConceptVocabulary
from bundle.image import ImageError
from bundle.manifest import NO_CONCEPTS
from bundle.onnx_graph import GraphName, OnnxGraph
from bundle.store import BundleError, open_bundle
from bundle.text import TextError

BUNDLE_FOLDER = "bundle"
"""Where a saved module has its bundle."""

_INPUTS: dict[GraphName, str] = {"image": "pixels", "text": "token_ids"}
"""The name of each graph's input among the features."""


class ConceptTokens:
    """What `SparseEncoder.decode` asks of a tokenizer: names of dimensions, which are concepts."""

    def __init__(self, concepts: ConceptVocabulary) -> None:
        self._concepts = concepts

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The names of concepts."""
        return [self._concepts[concept].name for concept in ids]


class ConceptEncoder(InputModule):
    """Texts and images to codes (B, C), by the graphs of a sparse bundle in ONNX Runtime.

    A text is a str, also one that looks like a path or an address: nothing is opened or fetched. An
    image is an object of Pillow. Nothing can be trained: the graphs have no gradients.
    """

    save_in_root = False

    def __init__(self, bundle: str | Path, *, threads: int = 0) -> None:
        """Opens a bundle, after every file was compared with its manifest.

        With 0 `threads` ONNX Runtime chooses their number. Raises BundleError, also for a dense
        bundle, which has no concepts.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._path, self._threads = Path(bundle), threads
        self._bundle = open_bundle(self._path)
        if not self._bundle.is_sparse:
            raise BundleError(NO_CONCEPTS)
        self._architecture = self._bundle.manifest.architecture
        self._graphs = {
            name: OnnxGraph(self._bundle.file(f"{name}.onnx"), name, threads=threads)
            for name in _INPUTS
        }
        self.tokenizer: Any = ConceptTokens(self._bundle.concepts)
        self._bundle.check_unchanged()

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be copied; the processes of a pool open the bundle again.
        return _reopened, (self._path, self._threads)

    @property
    def modalities(self) -> list[Modality]:
        """Texts and images."""
        return ["text", "image"]

    @property
    def max_seq_length(self) -> int:
        """T: a text of more tokens is cut."""
        return self._architecture.context_length

    def get_embedding_dimension(self) -> int:
        """C."""
        return self._architecture.concepts

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        """Token ids (B, T) of texts, or pixels (B, 3, S, S) of images.

        An input may also be a dictionary of one of the two, under `text` or `image`. Raises
        ValueError for an input that the model cannot read, and for texts beside images.
        """
        contents = [_unwrapped(one) for one in inputs]
        texts = [one for one in contents if isinstance(one, str)]
        images = [one for one in contents if isinstance(one, Image.Image)]
        if len(texts) == len(inputs):
            return {_INPUTS["text"]: torch.from_numpy(self._token_ids(texts, prompt or ""))}
        if len(images) == len(inputs):
            return {_INPUTS["image"]: torch.from_numpy(self._pixels(images))}
        raise ValueError("inputs: must be texts, or images of Pillow, in calls of their own")

    def _token_ids(self, texts: Sequence[str], prompt: str) -> np.ndarray[Any, Any]:
        try:
            return self._bundle.tokenizer.encode(prompt + text for text in texts)
        except TextError as error:
            raise ValueError(f"text: {error.problem}") from None

    def _pixels(self, images: Sequence[Image.Image]) -> np.ndarray[Any, Any]:
        try:
            return np.stack([self._bundle.preprocessor(image) for image in images])
        except ImageError as error:
            raise ValueError(f"image: {error}") from None

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Adds `sentence_embedding`, the codes (B, C) on the device of the inputs."""
        for graph, name in _INPUTS.items():
            if name in features:
                inputs: torch.Tensor = features[name]
                codes = self._graphs[graph].codes(inputs.cpu().numpy(), self._architecture.concepts)
                embedding = torch.from_numpy(codes).to(inputs.device)
                return {**features, "sentence_embedding": embedding}
        raise ValueError("features: neither texts nor images")

    def save(
        self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any
    ) -> None:
        """Copies the bundle into a folder. Raises BundleError if another one is there."""
        target = Path(output_path) / BUNDLE_FOLDER
        if target.exists():
            if open_bundle(target).manifest.digest != self._bundle.manifest.digest:
                raise BundleError("the folder has another bundle")
            return
        shutil.copytree(self._bundle.root, target)
        open_bundle(target)  # what was copied is what was opened

    @classmethod
    def load(  # type: ignore[override]  # the graphs take no defaults and no settings of a torch model
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> ConceptEncoder:
        """Opens what `save` wrote. Raises BundleError."""
        folder = cls.load_dir_path(
            model_name_or_path,
            subfolder=subfolder,
            token=token,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
        )
        return cls(Path(folder or model_name_or_path) / BUNDLE_FOLDER)


def _unwrapped(given: Any) -> Any:
    """What a dictionary of one entry holds: so mteb sends what is not text alone."""
    if isinstance(given, dict) and len(given) == 1:
        [(name, content)] = given.items()
        if name in ("text", "image"):
            return content
    return given


def _reopened(path: Path, threads: int) -> ConceptEncoder:
    return ConceptEncoder(path, threads=threads)
