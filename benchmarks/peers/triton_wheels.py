"""Whether Triton can run an ONNX model without Python from what its wheels hold: it cannot.

    pip download --no-deps --python-version 3.12 --platform manylinux_2_39_x86_64 \\
        --only-binary :all: tritonserver==2.73.0
    pip download --no-deps nvidia-pytriton==0.7.0
    python -m benchmarks.peers.triton_wheels *.whl

Triton loads a model by a backend, a shared library. The one for ONNX is libtriton_onnxruntime.so,
and the server itself is libtritonserver.so. Both come in NVIDIA's containers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS

SERVER, ONNX_BACKEND = "libtritonserver", "libtriton_onnxruntime"


def main() -> None:
    """Reads wheels, prints what they hold, and writes benchmarks/results/triton.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("wheels", type=Path, nargs="+")
    given = parser.parse_args()
    result = {
        "glibc": os.confstr("CS_GNU_LIBC_VERSION"),
        "wheels": {file.name: content(file) for file in given.wheels},
    }
    text = json.dumps(result, indent=1)
    print(text)
    (RESULTS / "triton.json").write_text(text + "\n")


def content(file: Path) -> dict[str, Any]:
    """What a wheel holds of Triton, and what its bindings need from elsewhere."""
    with zipfile.ZipFile(file) as wheel:
        libraries = [name for name in wheel.namelist() if ".so" in Path(name).name]
        bindings = [name for name in libraries if "triton_bindings" in name]
        return {
            "server": [name for name in libraries if Path(name).name.startswith(SERVER)],
            "onnx_backend": [name for name in libraries if ONNX_BACKEND in name],
            "backends": [name for name in libraries if "/backends/" in name],
            "bindings_need": [library for name in bindings for library in needed(wheel, name)],
        }


def needed(wheel: zipfile.ZipFile, name: str) -> list[str]:
    """The shared libraries that one of a wheel needs."""
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(wheel.read(name))
        copy.flush()
        shown = subprocess.run(["readelf", "-d", copy.name], capture_output=True, text=True)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", shown.stdout)


if __name__ == "__main__":
    main()
