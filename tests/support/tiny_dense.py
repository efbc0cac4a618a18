"""A CLIP as it is, small enough to export inside a test: a dense bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

from bundle.architecture import Architecture, Score
from bundle.manifest import Manifest, ModelOrigin, Parity, SourceParity, Tokenization
from bundle.store import open_bundle, write_bundle
from tests.support.tiny_model import CONTEXT, VOCABULARY, tiny_preprocessing

DENSE_DIM, LOGIT_SCALE, LOGIT_BIAS = 16, 10.0, -4.0


def dense_from(bundle: Path, models_dir: Path, *, name: str = "dense") -> Path:
    """The towers of the tiny bundle alone, as a dense bundle: what its sparse heads read is a space
    of DENSE_DIM that both towers share. Its graphs are cut there, as tracing them again takes
    seconds."""
    import onnx
    from onnx.utils import Extractor

    def fill(folder: Path) -> None:
        for file in ("LICENSE", "CARD.md", "tokenizer.json"):
            shutil.copy(bundle / file, folder / file)
        for graph, input_name in (("image", "pixels"), ("text", "tokens")):
            model = onnx.load(bundle / f"{graph}.onnx")
            cut = Extractor(model).extract_model([input_name], ["dense"])
            del cut.graph.value_info[:]  # it names the input once more, as no tracer does
            (folder / f"{graph}.onnx").write_bytes(cut.SerializeToString(deterministic=True))

    return write_bundle(models_dir, _manifest(name, "1", "softmax"), fill)


def with_sigmoid(bundle: Path, models_dir: Path, *, name: str = "sigmoid") -> Path:
    """The same graphs as a bundle whose score is SigLIP's."""
    manifest = open_bundle(bundle).manifest

    def fill(folder: Path) -> None:
        for file in manifest.files:
            shutil.copy(bundle / file, folder / file)

    return write_bundle(models_dir, _manifest(name, "1", "sigmoid"), fill)


def _manifest(name: str, version: str, score: Score) -> Manifest:
    parity = Parity(
        items=1, min_cosine=1.0, min_support_jaccard=None, max_abs_error=0.0, runtime="test"
    )
    return Manifest(
        name=name,
        version=version,
        kind="dense",
        architecture=Architecture(
            family="open_clip:tiny",
            dense_dim=DENSE_DIM,
            text_dense_dim=DENSE_DIM,
            context_length=CONTEXT,
            vocabulary=VOCABULARY,
            logit_scale=LOGIT_SCALE,
            logit_bias=LOGIT_BIAS if score == "sigmoid" else 0.0,
            score=score,
            dense="shared",
        ),
        preprocessing=tiny_preprocessing(),
        tokenization=Tokenization(kind="clip_bpe"),
        origin=ModelOrigin(source="open_clip:tiny", library="open_clip 0", weights_sha256="0" * 64),
        source_parity=SourceParity(
            images=1,
            texts=1,
            max_pixel_error=0.0,
            min_image_cosine=1.0,
            min_text_cosine=1.0,
            token_rows=1,
        ),
        image_parity=parity,
        text_parity=parity,
        files={},
    )
