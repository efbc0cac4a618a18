"""The wire contract: what `make protos` would notice, and generated code that fits its sources."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2

from tests.support.paths import ROOT

OURS = sorted((ROOT / "protos" / "sparseclip" / "v1").glob("*.proto"))
OPEN_INFERENCE = ROOT / "serving" / "rpc" / "open_inference" / "open_inference.proto"
CONFIG = ["--config", str(ROOT / "protos" / "buf.yaml")]


def protoc(sources: Sequence[Path], *outputs: str) -> None:
    folders = [f"-I{ROOT / 'protos'}", f"-I{ROOT}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *folders]
    subprocess.run([*command, *outputs, *map(str, sources)], check=True, timeout=120)


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("buf")), *arguments, *CONFIG]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protos") / "now.binpb"
    wanted = f"--descriptor_set_out={path}", "--include_imports", "--include_source_info"
    protoc([*OURS, OPEN_INFERENCE], *wanted)
    return path


def changed(built: Path, folder: Path) -> tuple[Path, descriptor_pb2.FileDescriptorSet]:
    files = descriptor_pb2.FileDescriptorSet.FromString(built.read_bytes())
    return folder / "changed.binpb", files


def test_a_removed_field_is_noticed(built: Path, tmp_path: Path) -> None:
    path, files = changed(built, tmp_path)
    for file in files.file:
        for message in file.message_type:
            if message.name == "SparseVector":
                del message.field[2]
    path.write_bytes(files.SerializeToString())
    done = buf("breaking", str(path), "--against", str(ROOT / "protos" / "released.binpb"))
    assert done.returncode != 0
    assert "SparseVector" in done.stdout


@pytest.mark.parametrize("name", ["SparseVector", "ModelStatistics"])
def test_a_badly_named_field_is_noticed(built: Path, tmp_path: Path, name: str) -> None:
    """Also in the contract of others, for which some of the rules do not hold."""
    path, files = changed(built, tmp_path)
    for file in files.file:
        for message in file.message_type:
            if message.name == name:
                message.field[2].name = "TheNorm"
    path.write_bytes(files.SerializeToString())
    done = buf("lint", str(path))
    assert done.returncode != 0
    assert "TheNorm" in done.stdout


@pytest.mark.parametrize(
    ("sources", "generated"),
    [(OURS, "sparseclip/v1"), ([OPEN_INFERENCE], "serving/rpc/open_inference")],
)
def test_the_committed_code_is_what_protoc_generates(
    sources: list[Path], generated: str, tmp_path: Path
) -> None:
    protoc(sources, *(f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")))
    fresh = {path.name: path.read_text() for path in (tmp_path / generated).iterdir()}
    committed = {
        path.name: path.read_text()
        for path in sources[0].parent.iterdir()
        if "_pb2" in path.name and path.is_file()
    }
    assert set(fresh) == set(committed)
    assert [name for name in fresh if fresh[name] != committed[name]] == []


@pytest.mark.parametrize("name", ["status.proto", "error_details.proto"])
def test_the_copies_of_google_rpc_are_those_of_the_installed_package(name: str) -> None:
    installed = Path(error_details_pb2.__file__).with_name(name).read_text()
    assert (ROOT / "protos" / "google" / "rpc" / name).read_text() == installed
