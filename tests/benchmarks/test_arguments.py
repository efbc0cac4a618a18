"""No number on a benchmark's command line ends it with a traceback."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable

import pytest

from benchmarks import open_loop, overload
from tests.support.paths import ROOT

PROGRAMS = sorted((ROOT / "benchmarks").rglob("*.py"))
CHECKED_BY_HAND = {"--warm"}


def test_every_number_has_a_range() -> None:
    numbers = [
        (file.name, option)
        for file in PROGRAMS
        for option, kind in _options(file.read_text())
        if kind in ("int", "float") and option not in CHECKED_BY_HAND
    ]
    assert not numbers


def _options(source: str) -> list[tuple[str, str]]:
    """The options of a program, each with what its `type` is."""
    return [
        (ast.literal_eval(call.args[0]), ast.unparse(word.value))
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".add_argument")
        for word in call.keywords
        if word.arg == "type"
    ]


@pytest.mark.parametrize(
    ("main", "arguments", "line"),
    [
        (overload.main, ["--seconds", "1"], "argument --seconds: must be above 1\n"),
        (overload.main, ["--seconds", "nan"], "argument --seconds: must be above 1\n"),
        (overload.main, ["--rounds", "0"], "argument --rounds: must be at least 1\n"),
        (overload.main, ["--knee", "0"], "argument --knee: must be above 0\n"),
        (open_loop.main, ["a", "--health"], "one of the arguments --rate --burst is required\n"),
        (open_loop.main, ["a", "--burst", "1"], "--payload: must be given without --health\n"),
        (
            open_loop.main,
            ["a", "--health", "--rate", "1", "--seconds", "2", "--warm", "2"],
            "--warm: must be at least 0 and below --seconds\n",
        ),
    ],
)
def test_a_number_that_cannot_be_measured_is_refused_by_its_name(
    main: Callable[[], None],
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.endswith(f"error: {line}")


def test_a_measurement_without_a_call_says_so() -> None:
    call = open_loop.Call(due=0.0, started=0.0, ended=0.1, outcome="OK")
    with pytest.raises(SystemExit, match="--seconds: no call started after --warm"):
        open_loop.summary([call], seconds=1.01, deadline=2.0, warm=1.0)
