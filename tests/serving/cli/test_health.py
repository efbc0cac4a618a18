"""`sparseclip health`: its exit code is what a container's health check looks at."""

from __future__ import annotations

import socket
from pathlib import Path

import click
import grpc
import pytest

from serving.cli._connection import Target
from sparseclip import CallError
from tests.serving.cli.conftest import Run
from tests.sparseclip.conftest import limits
from tests.sparseclip.scripted import Scripted, start


def test_a_server_that_serves_has_exit_code_0(run: Run, address: str) -> None:
    ended = run("health", "--server", address)
    assert (ended.code, ended.out) == (0, "SERVING\n")


def test_a_service_that_does_not_serve_has_exit_code_1(run: Run, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    server, _ = start(Scripted(limits=limits()), address)
    try:
        ended = run("health", "--server", address, "--service", "asleep")
    finally:
        server.stop(None).wait()
    assert (ended.code, ended.out) == (1, "NOT_SERVING\n")


def test_no_token_is_needed_or_sent(run: Run, address: str) -> None:
    # A token in plaintext to another machine would be refused before the call.
    ended = run("health", "--server", address, SPARSECLIP_TOKEN="secret")
    assert ended.code == 0


def test_no_server_has_exit_code_1_and_one_line(run: Run, tmp_path: Path) -> None:
    ended = run("health", "--server", f"unix:{tmp_path}/none", "--timeout", "0.3")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("Error: ")


def test_where_nobody_listens_the_error_names_the_address(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        port = f"localhost:{taken.getsockname()[1]}"
        for server, reason in (
            (port, "Connection refused"),
            (f"unix:{tmp_path}/no", "No such file"),
        ):
            ended = run("health", "--server", server, "--timeout", "60")
            assert ended.err.startswith(
                f"Error: UNAVAILABLE: {server}: no server answers there: {reason}"
            )


@pytest.mark.parametrize(
    ("token", "ending"), [(None, ": give --token, or set SPARSECLIP_TOKEN"), ("t", "is needed")]
)
def test_who_gives_no_token_is_told_how(address: str, token: str | None, ending: str) -> None:
    refused = CallError(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")
    with (
        pytest.raises(click.ClickException) as caught,
        Target(
            server=address,
            bundle=None,
            token=token,
            tls=False,
            tls_ca=None,
            cert=None,
            key=None,
            insecure=False,
            model="",
            timeout=10.0,
        ).open(),
    ):
        raise refused
    assert caught.value.message.endswith(ending)


def test_a_bundle_has_no_health(run: Run, tiny_bundle: Path) -> None:
    ended = run("health", "--bundle", tiny_bundle)
    assert ended.code == 2
    assert "--bundle" in ended.err


def test_a_server_of_no_name_is_not_the_default_one(run: Run) -> None:
    """An unset variable of a script must not ask, or open, something else."""
    for command in (("health",), ("concepts", "search", "dog")):
        ended = run(*command, "--server", "")
        assert ended.code == 2
        assert "--server: give host:port" in ended.err
