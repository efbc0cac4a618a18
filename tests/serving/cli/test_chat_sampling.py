"""`sparseclip chat`: how tokens are chosen, what ends an answer, and how full a talk is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.in_process import local_server
from tests.serving.cli.conftest import Run
from tests.serving.cli.test_chat import SHORT, talk


@pytest.fixture(scope="module")
def chat_address(chat_bundle: Path) -> Iterator[str]:
    with local_server(chat_bundle) as opened:
        yield opened


def test_stop_sequences_and_penalties(run: Run, chat_address: str, images: Path) -> None:
    asked = ("chat", images / "a.png", "What is this?", *SHORT, "--server", chat_address, "--json")
    [plain] = run(*asked).rows
    assert plain["stop"] == ""
    assert plain["usage"]["context_tokens"] > plain["usage"]["prompt_tokens"]
    stop = plain["answer"][3:5]
    [row] = run(*asked, "--stop", "no such text", "--stop", stop).rows
    assert (row["finish"], row["stop"]) == ("stop", stop)
    assert row["answer"] == plain["answer"][: plain["answer"].index(stop)]
    for option, value in (
        ("--presence-penalty", "-2"),
        ("--frequency-penalty", "-2"),
        ("--repetition-penalty", "0.01"),
    ):
        [other] = run(*asked, option, value).rows
        assert other["answer"] != plain["answer"]


def test_a_conversation_says_once_that_it_is_nearly_full(chat_address: str) -> None:
    # Without an image 12 tokens of an answer and a long question fill the context step by step.
    question = "star " * 18 + "\n"
    _, err = talk(chat_address, question + "/new\n" + "What?\n")
    assert "the talk fills" not in err
    _, err = talk(chat_address, question * 12 + "/new\n" + question * 12)
    lines = [line for line in err.splitlines() if line.startswith("the talk fills ")]
    assert len(lines) == 2  # once for each conversation
    assert lines[0] == lines[1]
    tokens, context = re.findall(r"\d+", lines[0])
    assert lines[0] == f"the talk fills {tokens} of {context} tokens; /new begins another"
    assert 0.8 * int(context) < int(tokens) <= int(context)
