"""Runs the benchmarks of speed one after another, with a line of progress for each.

    python -m benchmarks.suite --list
    python -m benchmarks.suite --only peers latency --infinity ENV/bin/infinity_emb

`make bench` runs all. Nothing else should run on the machine meanwhile. The raw output of each is
in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.running_server import environment


class Step(NamedTuple):
    """One program."""

    minutes: float
    """About how long it takes on two cores, once its models are made."""
    arguments: list[str]


L14 = ("--model", "vit_l14")
STEPS = {
    "demo": Step(3, ["benchmarks.serving", "--blocks", "5"]),
    "int8": Step(4, ["benchmarks.int8_build"]),
    "served": Step(3, ["benchmarks.serving", "--model", "vit_b32", "--blocks", "5"]),
    "engines": Step(5, ["benchmarks.engines"]),
    "peers": Step(7, ["benchmarks.beside_peers"]),
    "latency": Step(5, ["benchmarks.latency"]),
    "ghz": Step(2, ["benchmarks.outside_python"]),
    "front_ends": Step(3, ["benchmarks.front_ends"]),
    "doors": Step(3, ["benchmarks.doors"]),
    "engines_l14": Step(4, ["benchmarks.engines", *L14, "--batches", "1", "8", "--blocks", "2"]),
    "peers_l14": Step(
        6,
        [
            *("benchmarks.beside_peers", *L14, "--blocks", "1", "--batches", "8"),
            *("--settings", "1 a call, 1 at once", "1 a call, 8 at once"),
            *("--ours", "sparseclip, dense", "--libraries", "transformers"),
        ],
    ),
    "training": Step(5, ["benchmarks.training"]),
    "steering": Step(5, ["benchmarks.steering"]),
    "studio": Step(3, ["benchmarks.studio"]),
    "export": Step(15, ["benchmarks.export"]),
    "retrieval": Step(5, ["benchmarks.retrieval"]),
}
PASSED_ON = {
    "work": ("int8", "served", "engines", "peers", "latency", "engines_l14", "peers_l14"),
    "infinity": ("peers", "latency", "peers_l14"),
    "ghz": ("ghz",),
}
"""Options that are passed on, and the steps that take them."""


def main() -> None:
    """Runs the steps, and ends with the first one that fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    parser.add_argument("--work", help="folder that keeps the models, as an absolute path")
    parser.add_argument("--infinity", help="the command infinity_emb; without it, ours are alone")
    parser.add_argument("--ghz", help="the command ghz; without it, its step is left out")
    parser.add_argument("--list", action="store_true", help="show the steps and their minutes")
    given = parser.parse_args()
    if not given.ghz:
        given.only = [name for name in given.only if name != "ghz"]
    total = sum(STEPS[name].minutes for name in given.only)
    if given.list:
        for name in given.only:
            print(
                f"{name:12}{STEPS[name].minutes:5g} min  python -m {shlex.join(line(name, given))}"
            )
        print(f"{'all':12}{total:5g} min")
        return
    began = time.perf_counter()
    for number, name in enumerate(given.only, start=1):
        about = f"about {STEPS[name].minutes:g} of {total:g} minutes"
        print(f"[{number}/{len(given.only)}] {name}, {about}", flush=True)
        command = [sys.executable, "-m", *line(name, given)]
        if code := subprocess.run(command, env=environment()).returncode:
            raise SystemExit(f"{name}: failed with {code}")
    print(f"all: {(time.perf_counter() - began) / 60:.1f} minutes")


def line(name: str, given: argparse.Namespace) -> list[str]:
    """The arguments of Python for a step."""
    arguments = list(STEPS[name].arguments)
    for option, steps in PASSED_ON.items():
        if name in steps and (path := getattr(given, option)):
            arguments += [f"--{option}", path]
    return arguments


if __name__ == "__main__":
    main()
