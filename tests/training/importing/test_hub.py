"""Sources of the hub: asked where it answers, refused at once where it does not."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from serving.cli.main import main
from tests.support.paths import ROOT
from training.huggingface.model_error import ModelImportError
from training.importing._hub import hub_answers
from training.importing._open_clip_files import find_files
from training.importing.base import SourceOptions


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was downloaded before; what is changed for a hub that is silent is changed back."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


class SmallHub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for the files of one repository."""

    folder: Path

    def do_HEAD(self) -> None:  # noqa: N802
        self.answer(body=False)

    def do_GET(self) -> None:  # noqa: N802
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        name = self.path.partition("/resolve/main/")[2] or self.path.rpartition("/")[2]
        path = self.folder / name
        if not self.path.startswith("/org/tiny/") or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(
    open_clip_folder: Callable[[str], Path], empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a hub with the repository org/tiny, which the clients ask."""
    handler = type("TinyHub", (SmallHub,), {"folder": open_clip_folder("vit")})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_repository_of_the_hub_is_downloaded_and_then_read_offline(
    hub: str, monkeypatch: pytest.MonkeyPatch, open_clip_folder: Callable[[str], Path]
) -> None:
    files = find_files("hf-hub:org/tiny", SourceOptions())
    assert (
        files.weights.read_bytes()
        == (open_clip_folder("vit") / "open_clip_model.safetensors").read_bytes()
    )
    with pytest.raises(ModelImportError, match="hf-hub:org/other: the hub .* has no such model"):
        find_files("hf-hub:org/other", SourceOptions())
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert find_files("hf-hub:org/tiny", SourceOptions()) == files
    with pytest.raises(ModelImportError, match="was not downloaded before, and the hub"):
        find_files("hf-hub:org/other", SourceOptions())


@pytest.mark.usefixtures("empty_cache")
def test_a_hub_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    done = CliRunner().invoke(main, ["import", "open_clip:ViT-B-32/openai", "--name", "x"])
    assert done.exit_code == 1
    message = "open_clip:ViT-B-32/openai: needs the hub of Hugging Face, which does not answer"
    assert done.output == f"Error: {message}\n"
    assert not hub_answers()  # and its clients do not ask again


@pytest.mark.usefixtures("empty_cache")
def test_a_hub_that_is_turned_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelImportError, match="hf-hub:a/b: .* HF_HUB_OFFLINE turns off"):
        find_files("hf-hub:a/b", SourceOptions())


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("ViT-B-33/openai", "has no architecture 'ViT-B-33'; did you mean"),
        ("nothing like it", "has no architecture 'nothing like it'"),
        ("ViT-B-32", "ViT-B-32: name a tag, ViT-B-32/TAG, or --weights"),
        ("local-dir:/no/such/folder", "local-dir: no folder with an open_clip_config.json"),
    ],
)
def test_what_is_not_there_is_refused_before_the_hub_is_asked(rest: str, message: str) -> None:
    with pytest.raises(ModelImportError, match=message):
        find_files(rest, SourceOptions())


def test_a_folder_must_say_what_it_holds(tmp_path: Path) -> None:
    for content in ("{", "[]", "{}", "[" * 200_000):
        (tmp_path / "open_clip_config.json").write_text(content)
        with pytest.raises(ModelImportError, match="^open_clip_config.json: (has no model_|not )"):
            find_files(f"local-dir:{tmp_path}", SourceOptions())
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"a": 1}}))
    with pytest.raises(ModelImportError, match=r"must hold \S+; it has none"):
        find_files(f"local-dir:{tmp_path}", SourceOptions())
    for name in ("b.safetensors", "c.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ModelImportError, match="it has b.safetensors, c.pt"):
        find_files(f"local-dir:{tmp_path}", SourceOptions())
    (tmp_path / "open_clip_pytorch_model.bin").touch()
    files = find_files(f"local-dir:{tmp_path}", SourceOptions())
    assert files.weights.name == "open_clip_pytorch_model.bin"
    with pytest.raises(ModelImportError, match="--weights: this SOURCE has weights of its own"):
        find_files(f"local-dir:{tmp_path}", SourceOptions(weights=tmp_path / "c.pt"))


def test_a_refusal_imports_no_torch() -> None:
    """It would take seconds, and a refusal takes less than two."""
    program = (
        "import sys\n"
        "from training.cli.import_model import import_model\n"
        "for source in ('open_clip:ViT-B-33/openai', 'open_clip:ViT-B-32', 'hub:x', '/nowhere',"
        " 'run:/nowhere', 'hf:/nowhere', 'open_clip:ViT-B-32/openai'):\n"
        "    try:\n        import_model.main([source, '--name', 'x'])\n"
        "    except SystemExit as end:\n        assert end.code == 1, source\n"
        "print([name for name in ('torch', 'open_clip', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent", "PYTHONPATH": f"{ROOT}"},
    )
    assert done.stdout == "[]\n", done.stderr
    assert len(done.stderr.splitlines()) == 7, done.stderr
