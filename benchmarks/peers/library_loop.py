"""A loop over a library without a server, as a process of its own that takes orders by lines.

Each line of standard input is `{"batch": 8, "seconds": 4, "decode": true}`, and each line of output
the rate in images per second. The first line of output describes the library.

    python -m benchmarks.peers.library_loop transformers FOLDER image.jpg other.jpg
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.core.torchvision_compat import open_clip, transformers

Preprocess = Callable[[list[Image.Image]], torch.Tensor]
Encode = Callable[[torch.Tensor], torch.Tensor]


class LibraryLoop:
    """A library's own preprocessing and image tower."""

    def __init__(self, preprocess: Preprocess, encode: Encode, images: list[bytes]) -> None:
        self._preprocess = preprocess
        self._encode = encode
        self._images = images
        self._pixels = self._read(images)

    def _read(self, images: list[bytes]) -> torch.Tensor:
        return self._preprocess([Image.open(io.BytesIO(image)).convert("RGB") for image in images])

    @torch.inference_mode()
    def rate(self, batch: int, seconds: float, decode: bool) -> float:
        """Images per second from encoded bytes, or of the tower alone without `decode`."""
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            first = done % (len(self._images) - batch + 1)
            if decode:
                self._encode(self._read(self._images[first : first + batch]))
            else:
                self._encode(self._pixels[first : first + batch])
            done += batch
        return done / elapsed

    @torch.inference_mode()
    def vectors(self) -> NDArray[np.float32]:
        """Of all images, (B, D)."""
        vectors: NDArray[np.float32] = self._encode(self._pixels).float().numpy()
        return vectors


def transformers_loop(folder: Path, images: list[bytes]) -> LibraryLoop:
    """CLIPModel.get_image_features, with the processor of the folder."""
    library = transformers()
    model = library.CLIPModel.from_pretrained(folder).eval()
    processor = library.AutoImageProcessor.from_pretrained(folder)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        features = model.get_image_features(pixel_values=pixels)
        vectors: torch.Tensor = getattr(features, "pooler_output", features)
        return vectors

    return LibraryLoop(
        lambda read: processor(images=read, return_tensors="pt")["pixel_values"], encode, images
    )


def open_clip_loop(folder: Path, images: list[bytes]) -> LibraryLoop:
    """The image tower of open_clip with the weights of the folder."""
    from safetensors.torch import load_file

    clip: Any = open_clip()
    config = json.loads((folder / "config.json").read_text())
    side = {32: "ViT-B-32", 14: "ViT-L-14"}[config["vision_config"]["patch_size"]]
    model = clip.create_model(f"{side}-quickgelu").eval()
    transform = clip.image_transform(model.visual.image_size, is_train=False)
    weights = visual_weights(load_file(folder / "model.safetensors"))
    model.visual.load_state_dict(weights)
    return LibraryLoop(
        lambda read: torch.stack([transform(image) for image in read]), model.encode_image, images
    )


def visual_weights(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The image tower of transformers' CLIPModel under open_clip's names."""
    tower = "vision_model."
    names = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
        "encoder.layers": "transformer.resblocks",
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    weights = {"proj": source["visual_projection.weight"].T.contiguous()}
    for key, tensor in source.items():
        if not key.startswith(tower) or key.endswith("position_ids"):
            continue
        name = key.removeprefix(tower)
        if ".k_proj." in name or ".v_proj." in name:
            continue  # taken with q_proj
        if ".q_proj." in name:
            parts = [source[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            name = name.replace("self_attn.q_proj.", "attn.in_proj_")
            tensor = torch.cat(parts)
        for old, new in names.items():
            name = name.replace(old, new)
        weights[name] = tensor
    return weights


LOOPS = {"open_clip": open_clip_loop, "transformers": transformers_loop}
DISTRIBUTIONS = {"open_clip": "open_clip_torch", "transformers": "transformers"}


def main() -> None:
    """Answers lines until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", choices=LOOPS)
    parser.add_argument("folder", type=Path, help="of Hugging Face")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--vectors", type=Path, help="file for the vectors of all images, .npy")
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in arguments.images]
    loop = LOOPS[arguments.library](arguments.folder, images)
    if arguments.vectors:
        np.save(arguments.vectors, loop.vectors())
    name = DISTRIBUTIONS[arguments.library]
    print(f"{name} {version(name)}, torch {torch.__version__}, float32", flush=True)
    for line in sys.stdin:
        print(loop.rate(**json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
