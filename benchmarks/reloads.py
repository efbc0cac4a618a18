"""The memory of a server over reloads, and what a load leaves behind whose deadline has passed.

Two versions of the bundle are loaded in turn through AdminService, and the version before is
unloaded. Then loads are begun that their callers give up. The server runs as users start it.

    python -m benchmarks.reloads                # 50 reloads, without chat
    python -m benchmarks.reloads --chat auto
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.arguments import above, at_least
from benchmarks.figures import RESULTS, described
from benchmarks.process_usage import until_idle
from benchmarks.running_server import serving
from benchmarks.sample_collections import IMAGES, image
from bundle.store import default_bundle, open_bundle
from sparseclip import AdminClient, CallError, Client

TOKEN = "benchmark"
MIB = 2**20


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/overload.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--chat", choices=("auto", "off"), default="off")
    parser.add_argument("--reloads", type=at_least(1), default=50)
    parser.add_argument("--abandoned", type=at_least(0), default=24, help="loads that are given up")
    parser.add_argument("--deadline", type=above(0), default=0.3, help="of those loads, in seconds")
    parser.add_argument("--label", default="now", help="key of the result, such as before")
    parser.add_argument("--out", type=Path, default=RESULTS / "overload.json")
    given = parser.parse_args()
    with models(given.bundle or default_bundle()) as (folder, name, versions):
        first = folder / "models" / name / versions[0]
        flags = ["--models", str(folder / "models"), "--tokens", str(folder / "tokens.json")]
        flags += ["--admin-port", str(port())]
        with serving(first, *flags, "--chat", given.chat) as server:
            admin_address = f"127.0.0.1:{flags[-1]}"
            result = measure(server, admin_address, name, versions, given)
    result["machine"] = described()
    print(json.dumps(result, indent=1))
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    results.setdefault(given.label, {})[f"reloads, chat {given.chat}"] = result
    given.out.write_text(json.dumps(results, indent=1) + "\n")


def measure(
    server: Any, admin_address: str, name: str, versions: list[str], given: argparse.Namespace
) -> dict[str, Any]:
    """Memory in MiB and threads: first, after each reload, and after loads that were given up."""
    data = image(*IMAGES["jpeg512"], seed=0)
    process: psutil.Process = server.process

    def state() -> dict[str, float]:
        return {
            "rss_mib": round(process.memory_info().rss / MIB, 1),
            "threads": process.num_threads(),
        }

    with (
        Client(server.address, token=TOKEN, timeout=60.0) as client,
        AdminClient(admin_address, token=TOKEN, timeout=60.0) as admin,
    ):
        client.embed([data])
        states = [state()]
        for number in range(given.reloads):
            new, old = versions[(number + 1) % 2], versions[number % 2]
            admin.load_model(name, new)
            client.embed([data])
            admin.unload_model(name, old)
            states.append(state())
            print(number, states[-1], file=sys.stderr)
        result: dict[str, Any] = {
            "after_each_reload": states,
            "growth_over_the_first_reload": round(states[-1]["rss_mib"] / states[1]["rss_mib"], 3),
        }
        other = versions[(given.reloads + 1) % 2]
        outcomes: dict[str, int] = {}
        started = time.perf_counter()
        for _ in range(given.abandoned):
            try:
                admin.load_model(name, other, timeout=given.deadline)
                outcome = "OK"
                admin.unload_model(name, other)
            except CallError as error:
                outcome = error.code.name
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        result["abandoned"] = {"outcomes": outcomes, "at_once": state()}
        result["abandoned"]["idle_after_s"] = round(until_idle(process) - started, 1)
        result["abandoned"]["then"] = state()
        client.embed([data])
    return result


@contextlib.contextmanager
def models(bundle: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder with two versions of a bundle and a token file; its path, the name, the versions."""
    opened = open_bundle(bundle)
    model = opened.manifest.name
    versions = [f"{opened.manifest.version}-{letter}" for letter in "ab"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for version in versions:
            target = folder / "models" / model / version
            shutil.copytree(opened.root, target)
            manifest = json.loads((target / "manifest.json").read_text())
            manifest["version"] = version
            (target / "manifest.json").write_text(json.dumps(manifest))
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        principal = {"name": "benchmark", "sha256": [digest], "roles": ["embed", "admin"]}
        (folder / "tokens.json").write_text(json.dumps({"principals": [principal]}))
        yield folder, model, versions


def port() -> int:
    """A port that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    main()
