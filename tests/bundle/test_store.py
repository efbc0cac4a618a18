"""Bundles on disk: faults F-36 and F-37, and writing all or nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.manifest import FileEntry, Manifest
from bundle.store import BundleError, default_bundle, open_bundle
from bundle.verify import MANIFEST, REQUIRED, required_files
from tests.bundle.refused_bundle import FILES, refused
from tests.support.resealing import reseal
from tests.support.tiny_model import CONCEPTS, CONTEXT, SIDE, VOCABULARY, WORDS, tiny_images


def test_it_opens(tiny_bundle: Path) -> None:
    for path in (tiny_bundle, tiny_bundle.parent):
        opened = open_bundle(path)
        assert opened.root == tiny_bundle
        assert opened.manifest.name == "tiny"
    assert len(opened.concepts) == CONCEPTS
    assert opened.concepts[0].name == WORDS[0]
    assert opened.tokenizer.encode(["a dog"]).shape == (1, CONTEXT)
    assert opened.tokenizer.vocabulary == VOCABULARY
    assert opened.preprocessor(tiny_images()[0]).shape == (3, SIDE, SIDE)
    assert opened.concepts is opened.concepts
    assert opened.file("image.onnx").is_file()
    for name in ("nothing.onnx", "../1/image.onnx", MANIFEST):
        with pytest.raises(BundleError, match="not in the bundle"):
            opened.file(name)


def test_opening_parses_nothing_but_the_manifest(tiny_bundle: Path) -> None:
    program = (
        "import pathlib, sys; from bundle.store import open_bundle;"
        "open_bundle(pathlib.Path(sys.argv[1]));"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'safetensors', 'tokenizers', 'ftfy'};"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_bundle)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert refused(copy) == f"{name}: missing"
    reseal(copy)
    assert refused(copy) == f"{name}: missing from the manifest"


@pytest.mark.parametrize("name", ["extra.onnx", "adapter/extra.json", ".hidden", "a\nb.md"])
def test_an_extra_file(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("{}")
    assert refused(copy) == f"{ascii(name)[1:-1]}: not in the manifest"


def test_a_file_in_a_folder_may_be_listed(copy: Path) -> None:
    (copy / "adapter").mkdir()
    (copy / "adapter" / "adapter.json").write_text("{}")
    reseal(copy)
    assert open_bundle(copy).file("adapter/adapter.json").read_text() == "{}"


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_and_a_wrong_size(copy: Path, name: str) -> None:
    good = (copy / name).read_bytes()
    for at in (0, len(good) // 2, len(good) - 1):
        flipped = bytearray(good)
        flipped[at] ^= 16
        (copy / name).write_bytes(flipped)
        assert refused(copy) == f"{name}: sha256 differs from the manifest"
    for other in (good + b"\0", good[:-1], b""):
        (copy / name).write_bytes(other)
        assert refused(copy) == f"{name}: size differs from the manifest"


@pytest.mark.parametrize(
    "name",
    ["../secret.json", "/etc/hostname", "a/../b.json", "a//b.json", "./a.json", "a\\b.json", ""],
)
def test_paths_that_leave_the_bundle(copy: Path, name: str) -> None:
    (copy.parent / "secret.json").write_text("{}")
    manifest = Manifest.from_json((copy / MANIFEST).read_text())
    manifest.files[name] = FileEntry(bytes=2, sha256="0" * 64)
    (copy / MANIFEST).write_text(manifest.to_json())
    assert refused(copy).endswith(": not a plain path inside of the bundle")


def test_links_and_devices(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(copy / "image.onnx", outside)
    (copy / "image.onnx").symlink_to(outside)
    assert refused(copy) == "image.onnx: a symbolic link"
    (copy / "image.onnx").unlink()
    os.mkfifo(copy / "image.onnx")
    assert refused(copy) == "image.onnx: not a regular file"
    (copy / "image.onnx").unlink()
    shutil.move(outside, copy / "image.onnx")
    (copy / "adapter").symlink_to(tmp_path)
    assert refused(copy) == "adapter: a symbolic link"
    (copy / "adapter").unlink()
    shutil.move(copy / MANIFEST, outside)
    (copy / MANIFEST).symlink_to(outside)
    assert refused(copy) == "manifest.json: not a regular file"


def test_which_files_a_bundle_needs(copy: Path) -> None:
    manifest = open_bundle(copy).manifest
    assert set(required_files(manifest)) == set(FILES)
    towers_of_another_library = dataclasses.replace(
        manifest.architecture, config={}, patch_grid=None
    )
    without = set(
        required_files(dataclasses.replace(manifest, architecture=towers_of_another_library))
    )
    assert without == {*REQUIRED, "concepts.jsonl"}


def test_a_newer_schema(copy: Path) -> None:
    data = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(data | {"schema": 3, "new": "field"}))
    assert refused(copy) == "manifest.json: schema: this version reads the schemas 1 and 2"


def test_a_huge_manifest_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (copy / MANIFEST).open("ab") as file:
        file.truncate(200 * 2**20)
    monkeypatch.setattr(Manifest, "from_json", lambda text: pytest.fail("was parsed"))
    assert refused(copy) == "manifest.json: over 1048576 bytes"


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 100_000])
def test_a_manifest_that_is_none(copy: Path, text: bytes) -> None:
    (copy / MANIFEST).write_bytes(text)
    assert refused(copy).startswith("manifest.json: ")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere", "no such folder"),
        ("file", "no such folder"),
        ("empty", "the folder is no bundle: it has neither manifest.json nor CURRENT. "),
        ("models", "the folder holds models; name one of them, such as own"),
    ],
)
def test_no_bundle_at_all(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "models" / "own").mkdir(parents=True)
    (tmp_path / "models" / "own" / "CURRENT").write_text("1\n")
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / path).startswith(problem)


def test_tensors_in_another_file(copy: Path) -> None:
    import onnx
    from onnx import external_data_helper

    graph = onnx.load(copy / "image.onnx")
    weight = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
    external_data_helper.set_external_data(weight, location="../../secret")
    weight.ClearField("raw_data")
    (copy / "image.onnx").write_bytes(graph.SerializeToString())
    reseal(copy)
    assert refused(copy) == "image.onnx: keeps tensors in another file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must name one version"),
        (b"1\n1\n", "must name one version"),
        (b"..\n", "must name one version"),
        (b"../tiny/1\n", "must name one version"),
        (b"/etc\n", "must name one version"),
        (b"\xff\n", "cannot be read"),
        (b"1" * 300, "must be a file of one short line"),
        (b"2\n", "there is no such version"),
    ],
)
def test_current_that_names_no_version(copy: Path, text: bytes, message: str) -> None:
    (copy.parent / "CURRENT").write_bytes(text)
    assert refused(copy.parent) == f"CURRENT: {message}"


def test_current_must_agree_with_the_manifest(copy: Path) -> None:
    copy.rename(copy.parent / "2")
    (copy.parent / "CURRENT").write_text("2\n")
    assert refused(copy.parent) == "CURRENT: names another version than the manifest does"
    (copy.parent / "3").symlink_to(copy.parent / "2")
    (copy.parent / "CURRENT").write_text("3")
    assert refused(copy.parent) == "CURRENT: there is no such version"


def test_parts_that_do_not_fit_the_manifest(copy: Path) -> None:
    lines = (copy / "concepts.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "concepts.jsonl").write_bytes(b"".join(lines[:-1]))
    reseal(copy)
    with pytest.raises(BundleError, match=r"^concepts\.jsonl: must have one line"):
        _ = open_bundle(copy).concepts
    (copy / "concepts.jsonl").write_bytes(b'{"id": 1}\n')
    (copy / "tokenizer.json").write_bytes(b"{}")
    reseal(copy)
    opened = open_bundle(copy)
    with pytest.raises(BundleError, match=r"^concepts\.jsonl, line 1: name: missing"):
        _ = opened.concepts
    with pytest.raises(BundleError, match=r"^tokenizer\.json: not a tokenizer"):
        _ = opened.tokenizer


def test_the_default_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_BUNDLE", str(tiny_bundle))
    assert default_bundle() == tiny_bundle
    monkeypatch.setenv("SPARSECLIP_BUNDLE", str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match="^no bundle: SPARSECLIP_BUNDLE is no directory$"):
        default_bundle()
    monkeypatch.delenv("SPARSECLIP_BUNDLE")
    monkeypatch.setattr("bundle.store.__file__", str(tmp_path / "bundle" / "store.py"))
    model = tmp_path / "models" / "demo"
    model.mkdir(parents=True)  # some other folder of that name beside an installed package
    monkeypatch.setitem(sys.modules, "sparseclip_demo", None)
    with pytest.raises(BundleError, match=r"^no bundle: .*pip install 'sparseclip\[demo\]'$"):
        default_bundle()
    (tmp_path / "installed" / "sparseclip_demo").mkdir(parents=True)
    (tmp_path / "installed" / "sparseclip_demo" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    monkeypatch.delitem(sys.modules, "sparseclip_demo")
    assert default_bundle() == tmp_path / "installed" / "sparseclip_demo" / "demo"
    (model / "CURRENT").write_text("1\n")
    assert default_bundle() == model
