"""Shards are whole or absent: a killed writer continues to identical bytes, damage is noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.atomic import is_draft
from tests.support.paths import ICONS, ROOT
from training.data.shards import (
    RECEIPTS,
    Sample,
    ShardError,
    finished_shard,
    plan_digest,
    read_index,
    read_split,
    read_tar,
    shards_of,
    tar_bytes,
    write_shard,
)

WRITER = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from test_shards import samples
from training.data import shards

die_at, calls = int(sys.argv[2]), 0
real = os.{call}
def counted(*args, **kwargs):
    global calls
    calls += 1
    if calls == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
os.{call} = counted
for shard in range(3):
    shards.write_shard(Path(sys.argv[1]), f"train-{{shard:05d}}.tar", samples(shard))
"""


def samples(shard: int) -> list[Sample]:
    """Four samples of a shard."""
    return [
        Sample(key=f"s{shard}-{i}", png=bytes([shard, i]) * 400, meta={"caption": f"ä {i}"})
        for i in range(4)
    ]


def write_all(folder: Path) -> dict[str, bytes]:
    """Write three shards, and return every file."""
    for shard in range(3):
        write_shard(folder, f"train-{shard:05d}.tar", samples(shard))
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Each shard is flushed and renamed twice: itself, then its receipt.
@pytest.mark.parametrize(
    ("call", "die_at"), [("fsync", 3), ("fsync", 5), ("replace", 2), ("replace", 3), ("replace", 4)]
)
def test_a_killed_writer_resumes_to_identical_bytes(tmp_path: Path, call: str, die_at: int) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    expected = write_all(clean)
    killed = tmp_path / "killed"
    killed.mkdir()
    script = WRITER.format(root=str(ROOT), here=str(Path(__file__).parent), call=call)
    done = subprocess.run([sys.executable, "-c", script, str(killed), str(die_at)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(killed.glob("train-*.tar"))) < 3
    for tar in killed.glob("train-*.tar"):
        # Whatever has a final name is complete.
        assert tar.read_bytes() == expected[tar.name]
    resumed = write_all(killed)
    left = {name for name in resumed if is_draft(Path(name).name)}
    assert {name: resumed[name] for name in resumed.keys() - left} == expected


def test_a_finished_shard_is_not_written_again(tmp_path: Path) -> None:
    first = write_shard(tmp_path, "train-00000.tar", samples(0))
    before = (tmp_path / first.file).stat().st_mtime_ns
    assert write_shard(tmp_path, "train-00000.tar", samples(0)) == first
    assert (tmp_path / first.file).stat().st_mtime_ns == before


def test_other_content_replaces_a_shard(tmp_path: Path) -> None:
    write_shard(tmp_path, "train-00000.tar", samples(0))
    info = write_shard(tmp_path, "train-00000.tar", samples(1))
    assert [s.key for s in read_tar(tmp_path / info.file)] == [s.key for s in samples(1)]
    assert finished_shard(tmp_path, info.file, plan_digest(samples(0))) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_and_repaired(tmp_path: Path, damage: str) -> None:
    info = write_shard(tmp_path, "train-00000.tar", samples(0))
    path = tmp_path / info.file
    good = path.read_bytes()
    if damage == "flip":
        path.write_bytes(good[:600] + bytes([good[600] ^ 1]) + good[601:])
    elif damage == "cut":
        path.write_bytes(good[:-512])
    else:
        path.unlink()
    assert finished_shard(tmp_path, info.file, plan_digest(samples(0))) is None
    assert write_shard(tmp_path, info.file, samples(0)) == info
    assert path.read_bytes() == good


def test_a_damaged_receipt_vouches_for_nothing(tmp_path: Path) -> None:
    info = write_shard(tmp_path, "train-00000.tar", samples(0))
    (tmp_path / RECEIPTS / f"{info.file}.json").write_text("{")
    assert finished_shard(tmp_path, info.file, plan_digest(samples(0))) is None


def copy_fixture(folder: Path) -> Path:
    """A copy of the fixture that a test may spoil."""
    folder.mkdir()
    for path in ICONS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_reading_a_split_refuses_a_corrupt_shard(tmp_path: Path) -> None:
    folder = copy_fixture(tmp_path / "set")
    path = folder / shards_of(folder, "test_style")[0].file
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ShardError, match=r"test_style-00000\.tar: sha256"):
        list(read_split(folder, "test_style"))


def test_reading_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"holds no index\.json"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"schema": 9}))
    with pytest.raises(ShardError, match="not an index of schema 1"):
        read_index(tmp_path)
    with pytest.raises(ShardError, match="no split 'tain'; it has train"):
        shards_of(ICONS, "tain")


def test_a_key_with_a_dot_is_refused() -> None:
    with pytest.raises(ShardError, match="holds a dot"):
        tar_bytes([Sample(key="a.b", png=b"", meta={})])


def test_the_fixture_is_read_by_webdataset_too() -> None:
    """The shards are ordinary WebDataset tar files, not only readable by our own code."""
    webdataset = pytest.importorskip("webdataset")
    files = [str(ICONS / info.file) for info in shards_of(ICONS, "train")]
    found = {
        s["__key__"]: json.loads(s["json"])
        for s in webdataset.WebDataset(files, shardshuffle=False)
    }
    ours = {s.key: s.meta for s in read_split(ICONS, "train")}
    assert found == ours


def test_fixture_images_are_rgba_of_the_indexed_size() -> None:
    import io

    from PIL import Image

    side = read_index(ICONS)["render_px"]
    for split in read_index(ICONS)["splits"]:
        for sample in read_split(ICONS, split):
            with Image.open(io.BytesIO(sample.png)) as image:
                assert (image.mode, image.size) == ("RGBA", (side, side))


def test_temporary_files_never_outlive_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_shard(tmp_path, "train-00000.tar", samples(0))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
