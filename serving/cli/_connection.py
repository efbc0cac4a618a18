"""Where a command's model runs: on a server (`--server`), or in this process (`--bundle`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from bundle.bundle_path import BundlePath
from sparseclip import CallError, Client, Tls

_NOT_REACHED = re.compile(r"(?:Failed to connect to remote host|connect failed: .* error): (.+)$")
"""How gRPC's message about a port, and about a socket, ends where nobody listens."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The options that every client command has."""

    server: str | None
    bundle: Path | None
    token: str | None
    tls: bool
    tls_ca: Path | None
    cert: Path | None
    key: Path | None
    insecure: bool
    model: str
    timeout: float

    @contextmanager
    def open(self, *, chat: bool = False) -> Iterator[Client]:
        """A client of the named server, or of one inside this process that serves the bundle.

        `chat` says whether the server inside this process also loads the bundle's language model.
        A call that fails as a whole ends the command with one line and exit code 1.
        """
        if self.server is not None and not self.server.strip():  # an unset variable of a script
            raise click.UsageError("--server: give host:port or unix:PATH")
        if self.server and self.bundle:
            raise click.UsageError("--server and --bundle exclude each other")
        tls = self._tls()
        if tls and not self.server:
            raise click.UsageError("the TLS options need --server")
        with ExitStack() as stack:
            address = self.server or stack.enter_context(_in_process(self.bundle, chat))
            try:
                client = stack.enter_context(
                    Client(
                        address,
                        # $SPARSECLIP_TOKEN is for servers; the one in this process has no tokens.
                        token=self.token if self.server else None,
                        tls=tls,
                        insecure=self.insecure,
                        model=self.model,
                        timeout=self.timeout,
                    )
                )
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            try:
                yield client
            except CallError as error:
                raise click.ClickException(self._explained(error)) from None

    def _explained(self, error: CallError) -> str:
        """The error in one line; where this side knows more than the server, with what helps."""
        if self.server and (found := _NOT_REACHED.search(error.message)):
            return f"{error.code.name}: {self.server}: no server answers there: {found[1]}"
        if error.code.name == "UNAUTHENTICATED" and not self.token:
            return f"{error}: give --token, or set SPARSECLIP_TOKEN"
        return str(error)

    def _tls(self) -> Tls | None:
        if not (self.tls or self.tls_ca or self.cert or self.key):
            return None
        return Tls(ca=self.tls_ca, certificate=self.cert, key=self.key)


@contextmanager
def _in_process(bundle: Path | None, chat: bool) -> Iterator[str]:
    from bundle.store import BundleError, default_bundle
    from serving.core.errors import StartupError
    from serving.in_process import local_server

    if chat:
        # A missing library ends the command here, with the line that names the extra.
        import mllm_adapter.chat_model  # noqa: F401
    with ExitStack() as stack:
        try:
            address = stack.enter_context(local_server(bundle or default_bundle(), chat=chat))
        except (BundleError, StartupError) as error:
            raise click.ClickException(str(error)) from None
        yield address


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    click.option(
        "--server", metavar="HOST:PORT", help="Use the server at this address, or at unix:PATH."
    ),
    click.option(
        "--bundle",
        type=BundlePath(),
        help="Without --server: open this bundle in this process. "
        "Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
    ),
    click.option(
        "--token", envvar="SPARSECLIP_TOKEN", show_envvar=True, help="The caller's bearer token."
    ),
    click.option(
        "--tls", is_flag=True, help="Use TLS, and trust the public certificate authorities."
    ),
    click.option(
        "--tls-ca", type=_FILE, help="Use TLS, and trust the certificate authorities in this file."
    ),
    click.option("--cert", type=_FILE, help="The caller's certificate (mTLS)."),
    click.option("--key", type=_FILE, help="The private key of --cert."),
    click.option("--insecure", is_flag=True, help="Send the token even without TLS."),
    click.option(
        "--model",
        default="",
        help="Use this model of the server. Default: the server's default model.",
    ),
]


Command = Callable[..., None]


def target_options(*, timeout: float) -> Callable[[Command], Command]:
    """Adds the options of Target to a command, which gets the Target as `target`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def wrapped(**options: Any) -> None:
            target = Target(**{field.name: options.pop(field.name) for field in fields(Target)})
            command(target=target, **options)

        decorated: Command = click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=timeout,
            show_default=True,
            help="Deadline of each call, in seconds.",
        )(wrapped)
        for option in reversed(_OPTIONS):
            decorated = option(decorated)
        return decorated

    return decorate


with_target = target_options(timeout=30.0)
