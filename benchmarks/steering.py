"""What steering costs: tokens per second, a moved slider, and the projector's first layer.

Every ratio is taken between alternating blocks of one run. To compare with vLLM, run it in the
environment of `make test-vllm`, which has both libraries:

    python -m benchmarks.steering
    .venv-vllm/bin/python -m benchmarks.steering --engines transformers vllm --name steering_vllm
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.arguments import at_least

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
WORDS = ("rocket", "red apple", "dog", "sailboat", "hot beverage", "tulip", "cat", "bus")


def main() -> None:
    """Measures, prints and writes benchmarks/results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="a bundle with chat; default: the demo bundle")
    parser.add_argument(
        "--engines", nargs="+", choices=["transformers", "vllm"], default=["transformers"]
    )
    parser.add_argument(
        "--chats",
        nargs="+",
        type=at_least(1),
        default=[1, 8, 32],
        help="numbers of conversations at once",
    )
    parser.add_argument("--tokens", type=at_least(1), default=256, help="tokens of each answer")
    parser.add_argument(
        "--blocks", type=at_least(1), default=5, help="how often the alternatives take turns"
    )
    parser.add_argument(
        "--width",
        type=at_least(1),
        default=576,
        help="the LLM width H at which the first layer is timed",
    )
    parser.add_argument(
        "--patches",
        type=at_least(1),
        default=256,
        help="the patches P at which the first layer is timed",
    )
    parser.add_argument(
        "--name", default="steering", help="name of the file in benchmarks/results, without .json"
    )
    arguments = parser.parse_args()
    # vLLM: no usage report, 1 GiB for the KV cache, and no look-up on a hub.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    result = {
        **asyncio.run(conversations(arguments)),
        "first_layer": first_layer(arguments),
        "machine": machine(),
        "arguments": {k: v for k, v in vars(arguments).items() if not isinstance(v, Path)},
    }
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(text + "\n")


async def conversations(arguments: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of each engine, steered and unsteered, and the time of a moved slider."""
    from bundle.store import default_bundle, open_bundle
    from mllm_adapter.chat_model import ChatModel

    bundle = open_bundle(arguments.bundle or default_bundle())
    result: dict[str, Any] = {"bundle": f"{bundle.manifest.name}/{bundle.manifest.version}"}
    models = {}
    for name in arguments.engines:
        options: dict[str, Any] = {"dtype": "float32"} if name == "vllm" else {}
        models[name] = ChatModel.open(bundle.root / "adapter", name, **options)
    scenes = {name: Scene(bundle, model, arguments.tokens) for name, model in models.items()}
    result["slider"] = slider(next(iter(scenes.values())), arguments.blocks)
    result["engines"] = {name: model.engine.description for name, model in models.items()}
    result["tokens_per_second"] = {}
    for chats in arguments.chats:
        rates: dict[str, list[float]] = {}
        for scene in scenes.values():
            await scene.rate(chats, steered=True)  # warm-up
        for block in range(arguments.blocks):
            for name, scene in scenes.items():
                for steered in (False, True) if block % 2 else (True, False):
                    key = f"{name} {'steered' if steered else 'unsteered'}"
                    rates.setdefault(key, []).append(await scene.rate(chats, steered))
        result["tokens_per_second"][str(chats)] = summary(rates, arguments.engines)
    for model in models.values():
        await model.close()
    return result


def summary(rates: dict[str, list[float]], engines: list[str]) -> dict[str, Any]:
    """The median rates, and the ratios within each block with their range."""
    result: dict[str, Any] = {key: statistics.median(values) for key, values in rates.items()}
    pairs = {
        f"steered_over_unsteered {name}": (f"{name} steered", f"{name} unsteered")
        for name in engines
    }
    if len(engines) > 1:
        pairs["vllm_over_transformers"] = ("vllm steered", "transformers steered")
    for name, (numerator, denominator) in pairs.items():
        ratios = [a / b for a, b in zip(rates[numerator], rates[denominator], strict=True)]
        result[name] = statistics.median(ratios)
        result[f"{name} range"] = [min(ratios), max(ratios)]
    return result


class Scene:
    """One adapter, a few images, and a different plan for every conversation."""

    def __init__(self, bundle: Any, model: Any, tokens: int) -> None:
        from mllm_adapter.data.code_tables import BackboneGraphs
        from mllm_adapter.data.instructions import NAME_QUESTIONS
        from mllm_adapter.engines.base import Sampling
        from mllm_adapter.model.prompt import PromptMessage
        from mllm_adapter.steering.text_to_concepts import TextCodes

        self.bundle, self.model = bundle, model
        self.sampling = Sampling(max_tokens=tokens, min_tokens=tokens)
        self.graphs = BackboneGraphs(bundle, threads=1)
        self.text_codes = TextCodes(self.graphs.texts, self.graphs.concepts)
        self.text_codes.add(WORDS)
        self.files = [path.read_bytes() for path in sorted(IMAGES.glob("*.png"))]
        self.codes = [self.encode(data) for data in self.files]
        self.prompt = model.prompt([PromptMessage(role="user", text=NAME_QUESTIONS[0], images=1)])

    def encode(self, data: bytes) -> Any:
        """The codes of an image's bytes: the cost of an image that is new."""
        from bundle.image import ImageLimits, decode_image

        pixels = self.bundle.preprocessor(decode_image(data, ImageLimits()))
        return self.graphs.codes(pixels[None])

    def plan(self, number: int, steered: bool) -> Any:
        """The plan of conversation `number`. No two are alike."""
        from mllm_adapter.steering.plan import SteeringPlan

        if not steered:
            return SteeringPlan()
        return self.text_codes.swap("cat", WORDS[number % len(WORDS)], 32, 1.0 + number / 64)

    async def rate(self, chats: int, steered: bool) -> float:
        """Tokens per second of `chats` conversations at once, from plans to last tokens."""
        from mllm_adapter.chat_model import EncodedImage

        async def one(number: int) -> int:
            plan, index = self.plan(number, steered), number % len(self.codes)
            image = EncodedImage(key=bytes([index]), codes=self.codes[index], plan=plan)
            embedded = self.model.embed(self.prompt, [image])
            return sum([r.tokens async for r in self.model.answer(embedded, self.sampling)])

        began = time.perf_counter()
        counts = await asyncio.gather(*(one(number) for number in range(chats)))
        return sum(counts) / (time.perf_counter() - began)


def slider(scene: Scene, blocks: int) -> dict[str, Any]:
    """Milliseconds from a slider's new value to visual tokens, and from a new image's bytes."""
    from mllm_adapter.chat_model import EncodedImage
    from mllm_adapter.steering.phrases import WordEdit, expand
    from mllm_adapter.steering.plan import SteeringPlan

    model, [data, *_] = scene.model, scene.files
    counter = iter(range(10**9))

    def new_image() -> None:
        image = EncodedImage(
            key=next(counter).to_bytes(8, "big"), codes=scene.encode(data), plan=SteeringPlan()
        )
        model.visual_tokens(image)

    codes = scene.codes[0]

    def moved_slider() -> None:
        strength = 1.0 + (next(counter) % 100) / 100
        edit = WordEdit(word="dog", op="SET", value=strength, top=32)
        plan = SteeringPlan(edits=expand([edit], scene.text_codes.encode))
        model.visual_tokens(EncodedImage(key=b"kept", codes=codes, plan=plan))

    new_times, moved_times = alternate(new_image, moved_slider, blocks, repeats=40)
    ratios = [moved / new for moved, new in zip(moved_times, new_times, strict=True)]
    return {
        "first_encode_ms": 1000 * statistics.median(new_times),
        "moved_ms": 1000 * statistics.median(moved_times),
        "moved_over_first": statistics.median(ratios),
        "moved_over_first_range": [min(ratios), max(ratios)],
    }


def first_layer(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Times the projector's first layer for one image, as a sum over rows and as a product."""
    import torch

    from mllm_adapter.model.projector import PatchCodes, Projector

    rows = []
    for concepts in (4_096, 16_384, 55_296):
        projector = Projector(concepts, arguments.width)
        for active in (50, 350):
            generator = torch.Generator().manual_seed(active)
            indices = torch.stack(
                [
                    torch.randperm(concepts, generator=generator)[:active]
                    for _ in range(arguments.patches)
                ]
            )
            codes = PatchCodes(indices[None], torch.rand(1, *indices.shape, generator=generator))
            full = codes.dense(concepts)
            with torch.inference_mode():
                gathered, dense = alternate(
                    lambda c=codes, p=projector: p.sums(c, dense=False),  # type: ignore[misc]
                    lambda x=full, p=projector: x @ p.rows,  # type: ignore[misc]
                    arguments.blocks,
                    repeats=3,
                )
            ratios = [g / d for g, d in zip(gathered, dense, strict=True)]
            rows.append(
                {
                    "concepts": concepts,
                    "active": active,
                    "gather_ms": 1000 * statistics.median(gathered),
                    "dense_ms": 1000 * statistics.median(dense),
                    "gather_over_dense": statistics.median(ratios),
                    "gather_over_dense_range": [min(ratios), max(ratios)],
                }
            )
    return rows


def alternate(
    one: Callable[[], Any], other: Callable[[], Any], blocks: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds per call of both functions, in alternating blocks."""
    times: tuple[list[float], list[float]] = ([], [])
    one(), other()
    for _ in range(blocks):
        for call, seconds in zip((one, other), times, strict=True):
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            seconds.append((time.perf_counter() - began) / repeats)
    return times


def machine() -> dict[str, Any]:
    """The machine and the versions of the run."""
    import torch

    return {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
