"""Files of tokens, and the bearer token of a call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.auth.tokens import ANONYMOUS, Authenticator, TokenFile
from serving.core.errors import ErrorKind, ServingError, StartupError
from serving.core.metrics import Metrics
from tests.serving.support.certificates import ALICE, write_tokens


def test_tokens_files_are_strict(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    good = {"name": "a", "sha256": ["0" * 64]}
    for principals, message in (
        ([], "no principal"),
        ([{**good, "rols": []}], "rols: unknown key; did you mean roles"),
        ([{**good, "roles": ["root"]}], "roles"),
        ([good, {**good, "name": "b"}], "appears twice"),
        ([{**good, "sha256": ["00"]}], "64 lower-case hex digits"),
    ):
        path.write_text(json.dumps({"principals": principals}))
        with pytest.raises(StartupError, match=message):
            TokenFile(path, Metrics())


def test_a_bearer_token_names_its_principal(tmp_path: Path) -> None:
    authenticator = Authenticator(TokenFile(write_tokens(tmp_path / "tokens.json"), Metrics()))
    for value in (f"Bearer {ALICE}", f"bearer  {ALICE} "):
        assert authenticator.identify([("Authorization", value)]).name == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", ALICE)],
        [("authorization", f"Basic {ALICE}")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer token-of-mallory")],
        [("authorization", f"Bearer {ALICE}".encode())],
        [("authorization", f"Bearer {ALICE}")] * 2,
    ],
)
def test_anything_else_is_not_authenticated(
    tmp_path: Path, headers: list[tuple[str, str | bytes]]
) -> None:
    authenticator = Authenticator(TokenFile(write_tokens(tmp_path / "tokens.json"), Metrics()))
    with pytest.raises(ServingError) as caught:
        authenticator.identify(headers)
    assert caught.value.kind is ErrorKind.UNAUTHENTICATED
    assert ALICE not in caught.value.message


def test_without_a_token_file_everyone_is_anonymous() -> None:
    assert Authenticator(None).identify([]) is ANONYMOUS
