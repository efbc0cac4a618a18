"""A CLIP as it is, small enough to export inside a test: a dense bundle."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from pathlib import Path

from bundle.architecture import Architecture, Score
from bundle.manifest import Manifest, ModelOrigin, Parity, SourceParity, Tokenization
from bundle.store import open_bundle, write_bundle
from tests.support.tiny_model import CONTEXT, VOCABULARY, tiny_model, tiny_preprocessing

DENSE_DIM, LOGIT_SCALE, LOGIT_BIAS = 16, 10.0, -4.0


def export_dense(models_dir: Path, *, name: str = "dense", version: str = "1") -> Path:
    """Writes a dense bundle: two towers with random weights that share a space of DENSE_DIM."""
    import torch
    from torch import Tensor, nn

    from tests.support.tiny_model import SIDE, tiny_tokenizer
    from training.model.sparse_clip import SparseCLIP
    from training.model.tokenizer import write_tokenizer_json

    class ImageTower(nn.Module):
        def __init__(self, model: SparseCLIP) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> Tensor:
            dense: Tensor = self.model.image_head.dense(self.model.image(pixels).pooled)
            return dense

    class TextTower(nn.Module):
        def __init__(self, model: SparseCLIP) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor) -> Tensor:
            return self.model.encode_text(tokens).dense

    model = tiny_model(pool="cls", seed=1)

    def fill(folder: Path) -> None:
        (folder / "LICENSE").write_text("Apache License, Version 2.0\n")
        (folder / "CARD.md").write_text("# dense\n\nRandom weights, for tests.\n")
        write_tokenizer_json(tiny_tokenizer(), folder / "tokenizer.json")
        pixels = torch.zeros(2, 3, SIDE, SIDE)
        tokens = torch.zeros(2, CONTEXT, dtype=torch.int64)
        for graph, tower, example, input_name in (
            ("image", ImageTower(model), pixels, "pixels"),
            ("text", TextTower(model), tokens, "tokens"),
        ):
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    tower.eval(),
                    (example,),
                    dynamo=True,
                    input_names=[input_name],
                    output_names=["dense"],
                    dynamic_shapes={input_name: {0: torch.export.Dim("batch")}},
                    verbose=False,
                )
            assert program is not None
            (folder / f"{graph}.onnx").write_bytes(program.model_proto.SerializeToString())

    return write_bundle(models_dir, _manifest(name, version, "softmax"), fill)


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
