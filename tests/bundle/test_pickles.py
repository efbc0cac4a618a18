"""A bundle with a pickle in it is refused, and nothing unpickles it: fault F-37."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.refused_bundle import FILES, refused
from tests.support.resealing import reseal


class Tripwire:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def _archive(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


PICKLES: dict[str, Callable[[Tripwire], bytes]] = {
    **{f"protocol {p}": lambda wire, p=p: pickle.dumps(wire, protocol=p) for p in range(6)},
    "archive": lambda wire: _archive(pickle.dumps(wire)),
    "archive behind a head": lambda wire: b"\x08\x0a{}" + _archive(pickle.dumps(wire)),
    "magic number first": lambda wire: pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(wire),
}


def test_the_tripwire_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Tripwire(tmp_path / "fired")))  # noqa: S301
    assert (tmp_path / "fired").exists()


@pytest.mark.parametrize("name", [*FILES, "adapter/weights.bin", "model.pkl", "notes.txt"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_is_refused_and_never_fires(
    copy: Path, tmp_path: Path, kind: str, name: str
) -> None:
    wire = tmp_path / "fired"
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(PICKLES[kind](Tripwire(wire)))
    reseal(copy)
    assert refused(copy).startswith(f"{name}: ")
    assert not wire.exists()
