"""From the built wheels to a served model, in an empty environment of each interpreter.

`make test-wheel` runs it: `python -m tests.packaging.wheel_trial PYTHON...`. It needs a package
index for the dependencies. Each command is printed with its seconds; the first that does not do
what it should ends the trial.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

IMAGE = ROOT / "docs" / "images" / "cat.png"
CHAT = "serving without chat, which needs torch: pip install 'sparseclip[chat]'"
NO_BUNDLE = (
    "sparseclip serve: no bundle: name one, set SPARSECLIP_BUNDLE, "
    "or pip install 'sparseclip[demo]'"
)
TIMEOUT_S = 600


class Trial:
    """An environment of one interpreter, and an empty working directory."""

    def __init__(self, folder: Path, wheels: dict[str, Path]) -> None:
        self.wheels = wheels
        self.bin = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        shutil.copy(IMAGE, self.work / "cat.png")
        # Nothing of the clone, and nothing that another environment left, reaches a command.
        keep = ("HOME", "LANG", "PIP_", "SSL_", "TMPDIR", "http", "HTTP", "no_proxy", "NO_PROXY")
        self.environment = {
            name: value for name, value in os.environ.items() if name.startswith(keep)
        } | {"PATH": f"{self.bin}{os.pathsep}{os.defpath}"}

    def run(self, *command: str, shown: str = "", status: int = 0) -> tuple[str, str]:
        """Stdout and stderr of a command, which must end with this status."""
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        report(time.perf_counter() - began, shown or " ".join(command))
        check(done.returncode == status, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def sparseclip(self, *arguments: str) -> str:
        """Stdout of a console command that must work, and be silent on stderr."""
        out, err = self.run(str(self.bin / "sparseclip"), *arguments, shown=shown(arguments))
        check(err == "", err)
        return out

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address of `sparseclip serve`; after the block it must drain and end with 0."""
        arguments = ("serve", "--port", "0")
        begin = "sparseclip: serving on "
        began = time.perf_counter()
        process = subprocess.Popen(
            [self.bin / "sparseclip", *arguments],
            cwd=self.work,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            lines = []  # before the last, those of engines that are built and measured
            while not lines or not lines[-1].startswith(begin):
                lines.append(process.stderr.readline().rstrip())
                check(lines[-1] != "", "\n".join(lines))
            report(time.perf_counter() - began, f"{shown(arguments)}   # until it serves")
            check(CHAT in lines, "\n".join(lines))
            yield lines[-1].removeprefix(begin)
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=TIMEOUT_S)
            report(time.perf_counter() - began, "kill -TERM   # until it has drained")
            check((process.returncode, err) == (0, "sparseclip: draining\n"), err)
        finally:
            process.kill()
            process.wait()

    def try_all(self, python: str) -> None:
        """Install, embed, classify, explain, serve, and see what is said without the demo."""
        main, demo = self.wheels["sparseclip"], self.wheels["sparseclip_demo"]
        self.run(python, "-m", "venv", str(self.bin.parent), shown="python -m venv venv")
        self.run(
            *(str(self.bin / "python"), "-m", "pip", "install", "--quiet"),
            *("--constraint", str(ROOT / "constraints.txt"), f"{main}[serve,demo]", str(demo)),
            shown="pip install -c constraints.txt 'sparseclip[serve,demo]'",
        )
        where = (
            "import importlib.util, bundle.store, serving\n"
            "assert importlib.util.find_spec('torch') is None\n"
            "print(bundle.store.default_bundle(), serving.__file__, sep='\\n')"
        )
        out, _ = self.run(str(self.bin / "python"), "-c", where, shown="python -c 'import serving'")
        for path in out.splitlines():
            check(Path(path).is_relative_to(self.bin.parent), f"{path}: outside of the environment")
        self.sparseclip("--version")
        [local] = lines_of(self.sparseclip("embed", "cat.png", "--json"))
        check(local["model"]["name"] == "demo", str(local["model"]))
        self.sparseclip("embed", "--text", "a cat")
        [label] = lines_of(self.sparseclip("classify", "cat.png", "--labels", "cat,dog", "--json"))
        check(label["label"] == "cat", str(label))
        check("cat.png" in self.sparseclip("explain", "cat.png"), "no map")
        with self.serving() as address:
            [served] = lines_of(self.sparseclip("embed", "--server", address, "cat.png", "--json"))
        check(
            all(served[name] == local[name] for name in ("indices", "values", "model")),
            "the server's codes are not those of the process",
        )
        self.run(*(str(self.bin / "python"), "-m", "pip", "uninstall", "--quiet", "--yes"),
                 "sparseclip-demo", shown="pip uninstall sparseclip-demo")  # fmt: skip
        _, err = self.run(
            str(self.bin / "sparseclip"), "serve", shown="sparseclip serve   # refused", status=1
        )
        check(err == NO_BUNDLE + "\n", err)


def lines_of(out: str) -> list[dict]:
    """An object for each line."""
    return [json.loads(line) for line in out.splitlines()]


def shown(arguments: tuple[str, ...]) -> str:
    return shlex.join(("sparseclip", *arguments))


def report(seconds: float, command: str) -> None:
    print(f"{seconds:7.2f} s  {command}", flush=True)


def check(right: bool, message: str) -> None:
    if not right:
        raise SystemExit(f"wheel_trial: the last command failed:\n{message}")


def main(pythons: list[str]) -> None:
    if not pythons:
        raise SystemExit("wheel_trial: name at least one Python")
    wheels = {path.name.split("-")[0]: path for path in (ROOT / "dist").glob("sparseclip*.whl")}
    for path in wheels.values():
        print(f"{path.stat().st_size / 1e6:7.2f} MB {path.name}")
    for python in pythons:
        ask = "import platform, sys; print(sys.executable, platform.python_version())"
        command = [python, "-c", ask]
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
        executable, version = asked.stdout.split()
        print(f"\nPython {version}")
        with tempfile.TemporaryDirectory(prefix="sparseclip-") as folder:
            Trial(Path(folder), wheels).try_all(executable)


if __name__ == "__main__":
    main(sys.argv[1:])
