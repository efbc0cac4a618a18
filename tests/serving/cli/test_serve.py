"""`sparseclip serve`: its flags are the fields of ServerConfig, and it starts and stops."""

from __future__ import annotations

import dataclasses
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.chat.load_chat_model import check_chat_engine
from serving.cli._config_options import FieldOption, options, values
from serving.cli.serve import serve
from serving.core.config import ServerConfig, load_config
from sparseclip import Client
from tests.serving.cli.conftest import Run
from tests.serving.support.server_process import command

COMMAND = command()


def leaves(value: object, at: str = "") -> Iterator[str]:
    assert dataclasses.is_dataclass(value)
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from leaves(inner, f"{at}{field.name}.")
        else:
            yield f"{at}{field.name}"


def parse(*arguments: str) -> ServerConfig:
    given = serve.make_context("serve", list(arguments)).params
    given.pop("config")
    return load_config(None, values(ServerConfig, given))


def test_every_field_has_a_flag_with_a_sentence() -> None:
    found = {option.field: option for option in options(ServerConfig)}
    assert set(leaves(ServerConfig())) - {"tls"} <= set(found)
    assert {"tls.certificate", "tls.key", "tls.client_ca"} <= set(found)
    for field, option in found.items():
        assert option.help, f"{field}: no sentence"
    assert all(isinstance(option, FieldOption) for option in found.values())


def test_without_flags_all_is_as_the_dataclass_says() -> None:
    assert parse() == ServerConfig()


def test_flags_become_fields() -> None:
    config = parse(
        "--port", "0", "--limits-drain-s", "5", "--engine-device", "cpu", "--reflection",
        "--tls-certificate", "c.pem", "--tls-key", "k.pem", "--no-insecure",
    )  # fmt: skip
    assert (config.port, config.limits.drain_s, config.reflection) == (0, 5.0, True)
    assert config.tls is not None
    assert (config.tls.certificate, config.tls.client_ca) == ("c.pem", None)
    assert config.limits.queue_images == ServerConfig().limits.queue_images


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "many"], 2, "--port"),
        (["--engine-device", "tpu"], 2, "--engine-device"),
        (["--port", "70000"], 1, "port: must be 0 to 65,535"),
        (["--limits-drain-s", "-1"], 1, "limits.drain_s: must be greater than 0"),
        (["--limits-queue-s", "inf"], 1, "limits.queue_s: must be a finite number"),
        (["--host", "0.0.0.0"], 1, "host: plaintext"),
        (["--tls-key", "k.pem"], 1, "tls.certificate: missing"),
        (["--config", "missing.toml"], 1, "config: the file cannot be read"),
        (["--bundle", "missing"], 1, "bundle"),
    ],
)
def test_mistakes_end_with_one_line(
    run: Run, arguments: list[str], code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = run("serve", *arguments)
    assert ended.code == code
    err = ended.err + capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    if code == 1:
        assert len(err.splitlines()) == 1


def test_a_chat_engine_that_is_named_must_be_installed(
    run: Run,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    ended = run("serve", "--bundle", str(tiny_bundle), "--port", "0", "--chat-engine", "vllm")
    message = "chat engine vllm: vllm is not installed; pip install 'sparseclip[vllm]'"
    assert ended.err + capfd.readouterr().err == f"sparseclip serve: {message}\n"
    assert ended.code == 1
    check_chat_engine(ServerConfig(chat_engine="vllm", chat="off"))  # not used, so not needed


def test_a_config_file_lies_below_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 6000\nmax_models = 2\n")
    given = serve.make_context("serve", ["--port", "7000"]).params
    given.pop("config")
    config = load_config(file, values(ServerConfig, given))
    assert (config.port, config.max_models) == (7000, 2)


def test_it_serves_until_sigterm(tiny_bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--bundle", str(tiny_bundle), "--port", str(port)]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving on" in line
        assert str(port) in line
        with Client(f"localhost:{port}") as client:
            assert client.embed(texts=["a red circle"])[0].ok
        second = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
