"""How near an imported model is to its own library, and what an import costs.

Models of real geometry get random weights, are saved in their library's own format, and imported by
`sparseclip import`'s own code, each in a process of its own. The bundle is then compared with the
library on images, texts and token ids that the import itself did not see.

    python -m benchmarks.import_parity                          # all models: minutes, 6 GiB of disk
    python -m benchmarks.import_parity open_clip:ViT-B-32 hf:clip
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import at_least
from benchmarks.hf_models import REAL, write_hf_model
from benchmarks.open_clip_models import ARCHITECTURES, write_architecture
from bundle.text import TextError
from bundle.tokenizer import Tokenizer
from training.bundling.onnx_parity import row_cosines
from training.importing._golden_inputs import CORPUS, varied_image

RESULTS = Path(__file__).parent / "results"
ALL = (*(f"open_clip:{name}" for name in ARCHITECTURES), *(f"hf:{family}" for family in REAL))

COLUMNS = ("model", "image cosine", "text cosine", "pixels", "token ids", "import", "peak memory")


def main() -> None:
    """Measures each model, prints a table, and writes benchmarks/results/import_parity.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(ALL)}")
    parser.add_argument("--items", type=at_least(1), default=64, help="images, and texts")
    parser.add_argument("--strings", type=at_least(1), default=2_000, help="texts for token ids")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    models = arguments.models or ALL
    if unknown := [name for name in models if name not in ALL]:
        parser.error(f"argument MODEL: {unknown[0]!r} is none of {', '.join(ALL)}")
    if arguments.child:
        result = measure(models[0], arguments.child, arguments.items, arguments.strings)
        print(json.dumps(result))
        return
    path = RESULTS / "import_parity.json"
    rows = json.loads(path.read_text())["models"] if path.is_file() else {}
    for name in models:
        rows[name] = in_own_process(name, arguments.items, arguments.strings)
        print(row(name, rows[name]), flush=True)
        content = {"cores": os.cpu_count(), "machine": platform.machine(), "models": rows}
        path.write_text(json.dumps(content, indent=1) + "\n")
    print("\n" + table(rows))


def in_own_process(name: str, items: int, strings: int) -> dict[str, Any]:
    """Writes a model, and measures it in another process, whose peak memory is the import's. `load`
    is the load average before: above 2, other programs ran, and seconds are no measure."""
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name.replace(":", "-")
        kind, _, model = name.partition(":")
        (write_architecture if kind == "open_clip" else write_hf_model)(model, folder)
        command = [sys.executable, "-m", "benchmarks.import_parity", name, "--child", str(folder)]
        counts = ["--items", str(items), "--strings", str(strings)]
        done = subprocess.run([*command, *counts], capture_output=True, text=True)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return {"load": load, **result}


def measure(name: str, folder: Path, items: int, strings: int) -> dict[str, Any]:
    """Imports the model in `folder` and compares the bundle with its library."""
    from training.importing.import_bundle import ImportConfig, import_bundle

    kind = name.partition(":")[0]
    source = f"open_clip:local-dir:{folder}" if kind == "open_clip" else f"hf:{folder}"
    config = ImportConfig(source=source, models_dir=folder.parent / "models", name="model")
    began, used = time.monotonic(), time.process_time()
    bundle = import_bundle(config, lambda step: print(step, file=sys.stderr))
    cost = {
        "import_s": round(time.monotonic() - began, 1),
        "import_cpu_s": round(time.process_time() - used, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return cost | compare(source, bundle, items, strings)


def compare(source: str, path: Path, items: int, strings: int) -> dict[str, Any]:
    """What the bundle serves beside what the library gives: from files, and from texts."""
    from bundle.onnx_graph import OnnxGraph
    from bundle.store import open_bundle
    from training.importing import MODEL_SOURCES
    from training.importing.base import SourceOptions

    kind, _, rest = source.partition(":")
    model = MODEL_SOURCES.load(kind)().load(rest, SourceOptions())
    bundle, reference = open_bundle(path), model.reference
    graphs = {
        name: OnnxGraph(bundle.file(f"{name}.onnx"), name, sparse=False)
        for name in ("image", "text")
    }
    random = np.random.default_rng(7)
    images, texts, errors = [], [], [0.0]
    for seed in range(items):
        width, height = random.integers(40, 900, 2).tolist()
        image = varied_image((width, height), 1_000 + seed)
        own, library = bundle.preprocessor(image), reference.pixels([image])[0]
        std = np.asarray(model.preprocessing.std, dtype=np.float32)[:, None, None]
        errors.append(float((np.abs(own - library) * std).max()))
        served = graphs["image"].run(own[None])["dense"]
        images.append(row_cosines(served, reference.images(library[None])).item())
    drawn = mixed_texts(2 * max(strings, items))
    strings_read = [text for text in drawn if is_read(bundle.tokenizer, text)]
    for text in strings_read[:items]:
        served = graphs["text"].run(bundle.tokenizer.encode([text]))["dense"]
        texts.append(row_cosines(served, reference.texts(reference.tokens([text]))).item())
    ids = bundle.tokenizer.encode(strings_read[:strings])
    equal = (ids == reference.tokens(strings_read[:strings])).all(axis=1)
    return {
        "family": model.family,
        "library": model.library,
        "items": items,
        "min_image_cosine": min(images),
        "min_text_cosine": min(texts),
        "max_pixel_error_255": round(max(errors) * 255, 3),
        "strings": strings,
        "equal_token_rows": int(equal.sum()),
        "patch_cosine": getattr(bundle.manifest.patch_parity, "min_cosine", None),
        "bundle_mib": sum(f.bytes for f in bundle.manifest.files.values()) >> 20,
    }


def is_read(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is not refused, as one that cleaning leaves empty is."""
    try:
        tokenizer.tokenize(text)
    except TextError:
        return False
    return True


def mixed_texts(count: int) -> list[str]:
    """Texts pieced together from the words of the importer's corpus, in all their scripts."""
    random = np.random.default_rng(7)
    words = [word for text in CORPUS for word in text.split()[:12]]
    sizes = random.integers(1, 30, count)
    return [" ".join(random.choice(words, size).tolist()) for size in sizes]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """All rows as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *(row(name, rows[name]) for name in rows)])


def row(name: str, result: dict[str, Any]) -> str:
    """One row of the table."""
    if "error" in result:
        return f"| {name} | {result['error']} |"
    cells: Sequence[str] = (
        name,
        f"{result['min_image_cosine']:.6f}",
        f"{result['min_text_cosine']:.6f}",
        f"{result['max_pixel_error_255']:.2f}/255",
        f"{result['equal_token_rows']:,} of {result['strings']:,}",
        f"{result['import_s']:.0f} s",
        f"{result['peak_mib'] / 1024:.1f} GiB",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
