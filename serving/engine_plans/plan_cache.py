"""Built engines on the disk of the machine that built them.

    <cache>/engines/<key>/plan.json    what was built, how near it is to the reference, its files
    <cache>/engines/<key>/image/...    what the engine wrote for a graph

The key is a digest of the version of Sparseclip, the bundle's graphs, the engine, the device, the
precision, and the engine's identity: its library's version and the hardware. So a plan of another
machine is never found. What is found is opened only when every file has the digest that plan.json
says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bundle.atomic import replace_directory, staging_directory
from bundle.manifest import FileEntry
from bundle.onnx_graph import GraphName
from bundle.schema import SchemaError, from_dict
from bundle.store import Bundle
from bundle.user_cache import user_cache
from serving.engine_plans.parity import EngineParity
from serving.engines import ENGINES, Device, EnginePrecision
from serving.engines.base import GraphPlan, Plans, Region

PLAN_FILE = "plan.json"

LAYOUT = 1
"""Of plan.json and of the gate: one of another layout is not found, and built again."""


class DamagedPlanError(RuntimeError):
    """A plan whose files are not as it says; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """What a plan was made of and for."""

    graphs: str
    """Digest of the bundle's graphs."""
    engine: str
    device: Device
    precision: EnginePrecision
    identity: str
    """See Engine.identity."""

    @classmethod
    def of(cls, bundle: Bundle, engine: str, device: Device, precision: EnginePrecision) -> PlanKey:
        """The key on this machine. Raises PluginError and EngineUnavailableError."""
        return cls(
            graphs=graphs_digest(bundle),
            engine=engine,
            device=device,
            precision=precision,
            identity=ENGINES.load(engine).identity(device),
        )

    @property
    def digest(self) -> str:
        """The name of the plan's folder."""
        text = json.dumps([LAYOUT, version("sparseclip"), dataclasses.astuple(self)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class BuiltGraph:
    """One graph of a plan."""

    recipe: str
    """The name of the mixed recipe; see build_plan.RECIPES."""
    precision: EnginePrecision
    """fp32 where the graph is left as it is."""
    kept: tuple[Region, ...]
    """Regions in fp32."""
    parity: EngineParity
    tried: dict[str, list[str]]
    """By recipe: why it was given up."""


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """plan.json."""

    key: PlanKey
    model: str
    """NAME/VERSION of the bundle."""
    graphs: dict[str, BuiltGraph]
    agreement: float
    """Share of the images whose nearest text is the reference's."""
    refused: str
    """Why the gate refuses it; empty when it passed."""
    images: str
    """What it was compared on: `drawn`, or how many images of the user's."""
    build_s: float
    """Seconds to build and compare it."""
    files: dict[str, FileEntry]
    """What the engine wrote, by path in the folder."""

    @property
    def digest(self) -> str:
        """Which build it is, by its files."""
        text = json.dumps({name: entry.sha256 for name, entry in self.files.items()})
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(entry.bytes for entry in self.files.values())


class PlanCache:
    """The plans below one folder."""

    def __init__(self, root: str | Path | None = None) -> None:
        """`root` is a configuration's `cache`; None takes the user's."""
        self.root = Path(root) if root else user_cache() / "engines"
        self.told: set[str] = set()
        """Digests of damaged plans that the user has been told of."""

    @contextlib.contextmanager
    def exclusive(self, say: Callable[[str], None]) -> Iterator[None]:
        """Keeps other processes from building and measuring until the block ends: they would do the
        same work at the same time, and slow each other's measurements."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # no cache, or no locks: several may build
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder = os.open(self.root, os.O_RDONLY)
                stack.callback(os.close, folder)
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    say("another process builds or measures engines; waiting for it")
                    fcntl.flock(folder, fcntl.LOCK_EX)
            yield

    def find(self, key: PlanKey) -> PlanRecord | None:
        """The plan of a key whose files are intact, or None.

        Raises DamagedPlanError when a file is missing, or other than when it was written.
        """
        folder = self.root / key.digest
        if not os.path.lexists(folder):
            return None
        record = _read(folder / PLAN_FILE)
        if record is None or record.key != key:
            raise DamagedPlanError(PLAN_FILE)
        for name, entry in record.files.items():
            if not _is_intact(folder / name, entry):
                raise DamagedPlanError(name)
        return record

    def plans(self, record: PlanRecord) -> Plans:
        """What an engine opens of a plan that `find` gave."""
        folder = self.root / record.key.digest
        graphs: dict[GraphName, GraphPlan] = {}
        for name, graph in record.graphs.items():
            wrote = any(path.startswith(f"{name}/") for path in record.files)
            graphs[name] = GraphPlan(  # type: ignore[index]
                precision=graph.precision, kept=graph.kept, folder=folder / name if wrote else None
            )
        return graphs

    def store(self, key: PlanKey, fill: Callable[[Path], PlanRecord]) -> PlanRecord:
        """Keeps what `fill` writes into a folder, in place of an older plan of the key.

        The record that `fill` returns needs no `files`. Raises OSError.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staging_directory(self.root) as staging:
            draft = staging / key.digest
            draft.mkdir()
            record = fill(draft)
            files = sorted(path for path in draft.rglob("*") if path.is_file())
            entries = {path.relative_to(draft).as_posix(): _entry(path) for path in files}
            record = dataclasses.replace(record, files=entries)
            text = json.dumps(dataclasses.asdict(record), indent=1)
            (draft / PLAN_FILE).write_text(text + "\n", encoding="utf-8")
            target = self.root / key.digest
            if target.is_symlink() or not target.is_dir():
                target.unlink(missing_ok=True)
            replace_directory(draft, target)
        return record

    def holds(self, engine: str, bundle: Bundle) -> bool:
        """Whether there is a plan of an engine for a bundle, in any precision."""
        graphs = graphs_digest(bundle)
        return any((r.key.engine, r.key.graphs) == (engine, graphs) for r in self.records())

    def names(self) -> list[str]:
        """What lies in the folder, which may not be there. Raises OSError for one that cannot be
        read."""
        try:
            return sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []

    def records(self) -> Iterator[PlanRecord]:
        """Every plan whose plan.json can be read, those of other machines and versions included."""
        names: list[str] = []
        with contextlib.suppress(OSError):  # a folder of somebody else's holds nothing for us
            names = self.names()
        for name in names:
            record = _read(self.root / name / PLAN_FILE)
            if record is not None:
                yield record


def graphs_digest(bundle: Bundle) -> str:
    """A digest of the graphs by which a bundle is served."""
    names = [f"{graph}.onnx" for graph in bundle.graphs]
    text = json.dumps({name: bundle.manifest.files[name].sha256 for name in names})
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> PlanRecord | None:
    """The record in a file; None where there is none that can be read."""
    try:
        if not path.is_file():  # a pipe would block
            return None
        return from_dict(PlanRecord, json.loads(path.read_text(encoding="utf-8")), at="")
    except (OSError, SchemaError, ValueError, RecursionError):
        return None


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(bytes=path.stat().st_size, sha256=digest)


def _is_intact(path: Path, entry: FileEntry) -> bool:
    try:
        return path.is_file() and path.stat().st_size == entry.bytes and _entry(path) == entry
    except OSError:
        return False
