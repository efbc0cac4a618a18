"""LLaVA's JSON format: what is read, and what is counted as bad, with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm_adapter.data.own_conversations import (
    BadConversationError,
    OwnConversations,
    parse_row,
)
from training.data.data_recipe import DataError

HUMAN = {"from": "human", "value": "<image>\nWhat is this?"}
GPT = {"from": "gpt", "value": "a cat"}


def row(*turns: Any, **fields: Any) -> dict[str, Any]:
    return {"image": "cat.png", "conversations": list(turns), **fields}


def human(value: object) -> dict[str, object]:
    return {"from": "human", "value": value}


GOOD: list[tuple[str, dict[str, Any], list[tuple[str, str, int]], int]] = [
    ("the usual", row(HUMAN, GPT), [("user", "What is this?", 1), ("assistant", "a cat", 0)], 1),
    (
        "at the end",
        row(human("What is this?\n<image>"), GPT),
        [("user", "What is this?", 1), ("assistant", "a cat", 0)],
        1,
    ),
    (
        "in the middle",
        row(human("Is <image> a cat?"), GPT),
        [("user", "Is a cat?", 1), ("assistant", "a cat", 0)],
        1,
    ),
    (
        "absent",
        row(human("What?"), GPT, human("Sure?"), GPT),
        [("user", "What?", 1), ("assistant", "a cat", 0), ("user", "Sure?", 0)]
        + [("assistant", "a cat", 0)],
        1,
    ),
    (
        "text alone",
        row(human("Hi"), GPT, image=None),
        [("user", "Hi", 0), ("assistant", "a cat", 0)],
        0,
    ),
    (
        "two images",
        row(human("<image>\n<image>\nSame?"), GPT, image=["a.png", "b.png"]),
        [("user", "Same?", 2), ("assistant", "a cat", 0)],
        2,
    ),
    (
        "an image later",
        row(human("Hi"), GPT, human("<image>What?"), GPT),
        [("user", "Hi", 0), ("assistant", "a cat", 0), ("user", "What?", 1)]
        + [("assistant", "a cat", 0)],
        1,
    ),
    (
        "a system message",
        row({"from": "system", "value": "Be short."}, human("What?"), GPT),
        [("system", "Be short.", 0), ("user", "What?", 1), ("assistant", "a cat", 0)],
        1,
    ),
    (
        "an image without words",
        row(human("<image>"), GPT),
        [("user", "", 1), ("assistant", "a cat", 0)],
        1,
    ),
]


@pytest.mark.parametrize(("data", "messages", "images"), [g[1:] for g in GOOD], ids=lambda x: "")
def test_good_rows(data: Any, messages: Any, images: int) -> None:
    conversation = parse_row("1", data)
    assert [(m.role, m.text, m.images) for m in conversation.messages] == messages
    assert len(conversation.images) == images


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (7, "not an object"),
        ({"image": "cat.png"}, "conversations: no list of messages"),
        (row(), "conversations: no list of messages"),
        (row(HUMAN), "the messages do not alternate"),
        (row(GPT, HUMAN), "the messages do not alternate"),
        (row(HUMAN, HUMAN, GPT), "the messages do not alternate"),
        (row({"from": "system", "value": "Be short."}), "the messages do not alternate"),
        (row({"from": "bard", "value": "x"}, GPT), "message 1: from: must be human or gpt"),
        (row("hello", GPT), "message 1: from: must be human or gpt"),
        (row(HUMAN, GPT, {"from": "system", "value": "x"}, GPT), "message 3: only the first one"),
        (row(human(""), GPT), "message 1: value: must not be empty"),
        (row(human(None), GPT), "message 1: value: must be a text"),
        (row(human("\ud800"), GPT), "message 1: value: not valid Unicode"),
        (row(human("<image><image>"), GPT), "2 <image> for 1 images"),
        (row(HUMAN, GPT, image=""), "1 <image> for 0 images"),
        (row(human("a"), {"from": "gpt", "value": "<image> b"}), "<image> in a message that is"),
        (row(HUMAN, GPT, image="../cat.png"), "the image's path leads out of the folder"),
        (row(HUMAN, GPT, image="/etc/passwd"), "the image's path leads out of the folder"),
        (row(HUMAN, GPT, image=["cat.png", 3]), "no image"),
    ],
)
def test_bad_rows_have_a_reason(data: Any, reason: str) -> None:
    with pytest.raises(BadConversationError) as caught:
        parse_row("1", data)
    assert reason in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "images" / "cat.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    (tmp_path / "outside.png").write_bytes((tmp_path / "images" / "cat.png").read_bytes())
    return tmp_path


@pytest.mark.parametrize("lines", [False, True])
def test_each_bad_row_is_counted_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture, lines: bool
) -> None:
    rows = [
        row(HUMAN, GPT, id="good"),
        row(HUMAN, GPT, id="again"),
        row(HUMAN, GPT, id="gone", image="gone.png"),
        row(HUMAN, GPT, id="broken", image="broken.png"),
        row(HUMAN, GPT, id="away", image="../outside.png"),
        row(human("Hi"), GPT, id="text", image=None),
    ]
    file = folder / "own.json"
    if lines:
        file.write_text("".join(json.dumps(r) + "\n" for r in rows) + "\n{broken\n")
    else:
        file.write_text(json.dumps(rows))
    own = OwnConversations(file, folder / "images")
    assert (own.tally.found, own.tally.bad, len(own.rows)) == (6 + lines, 3 + lines, 3)
    assert own.images == ["cat.png"]
    assert [image.size for image in own.decoded()] == [(20, 10)]
    named = "\n".join(caplog.messages)
    for text in (
        "own.json:3 (gone): the image is not found",
        "own.json:4 (broken): unsupported image",
        "own.json:5 (away): the image's path leads out of the folder",
    ):
        assert f"bad conversation: {text}" in named
    assert ("own.json:8: not JSON" in named) == lines
    own.drop(lambda conversation: None if conversation.images else "too long")
    assert (own.tally.bad, len(own.rows)) == (4 + lines, 2)
    own.tally.check()
    assert f"{6 + lines} conversations, 2 good, {4 + lines} bad" in own.tally.summary()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[{]", "not JSON at line 1"),
        ("", "0 conversations, 0 good"),
        ("[]", "0 conversations, 0 good"),
        (json.dumps([row(HUMAN, GPT, image="gone.png")]), "1 conversations, 0 good, 1 bad"),
    ],
)
def test_a_file_without_a_good_row_ends_a_run_with_one_line(
    folder: Path, content: str, problem: str
) -> None:
    (folder / "own.json").write_text(content)
    with pytest.raises(DataError, match=f"^conversations.path: own.json: {problem}[^\n]*$"):
        OwnConversations(folder / "own.json", folder / "images").tally.check()
    with pytest.raises(DataError, match=r"^conversations.path: gone.json: cannot be read$"):
        OwnConversations(folder / "gone.json")
