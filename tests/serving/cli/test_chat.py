"""`sparseclip chat`: one question, a conversation, edits on the command line and in a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from bundle.store import Bundle
from mllm_adapter.steering.plan import SteeringEdit, SteeringPlan
from serving.cli._edits import Edits, parse_edit, taken_as
from serving.cli.main import main
from serving.core.config import ServerConfig
from serving.in_process import local_server
from sparseclip import Edit, EditedConcept, ImageConcepts
from tests.serving.cli.conftest import Run

SHORT = ("--max-tokens", "12")


@pytest.fixture(scope="module")
def chat_address(chat_bundle: Path) -> Iterator[str]:
    with local_server(chat_bundle) as opened:
        yield opened


def test_a_question_is_answered_as_text_and_as_json(
    run: Run, chat_address: str, images: Path
) -> None:
    asked = ("chat", images / "a.png", "What is this?", *SHORT, "--server", chat_address)
    ended = run(*asked, "--json")
    assert ended.code == 0
    [row] = ended.rows
    assert row["question"] == "What is this?"
    assert row["answer"]
    assert row["usage"]["completion_tokens"] <= 12
    assert row["timings"]["total_us"] > 0
    assert row["model"] == {"name": "tiny", "version": "2"}
    [seen] = row["images"]
    assert seen["source"] == str(images / "a.png")
    assert seen["before"] == seen["after"]
    assert seen["edited"] == []
    shown = run(*asked)
    printable = "".join(c for c in row["answer"] if c.isprintable() or c in "\n\t")
    note = f"Warning: {images / 'a.png'}: cropped: 76% of the image read\n"
    assert (shown.code, shown.out, shown.err) == (0, printable + "\n", note)


def test_a_framing_is_the_caller_s(run: Run, chat_address: str, tmp_path: Path) -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (0, 0, 30, 30))  # the crop does not show it
    wide.save(tmp_path / "wide.png")
    asked = ("chat", tmp_path / "wide.png", "What is this?", *SHORT, "--server", chat_address)
    [cropped] = run(*asked, "--json").rows[0]["images"]
    padded = run(*asked, "--framing", "pad", "--json")
    assert padded.err == ""
    [whole] = padded.rows[0]["images"]
    assert (whole["coverage"]["framing"], whole["coverage"]["image_share"]) == ("pad", 1.0)
    assert whole["before"] != cropped["before"]


def test_edits_change_what_is_seen_and_said(run: Run, chat_address: str, images: Path) -> None:
    asked = ("chat", images / "a.png", "What is this?", *SHORT, "--server", chat_address)
    [plain] = run(*asked, "--json").rows
    edits = ("--set", "dog=4", "--suppress", "#0", "--scale", "=cat=0.5", "--add", "star=1")
    [row] = run(*asked, *edits, "--top", "2", "--json").rows
    [seen] = row["images"]
    assert row["answer"] != plain["answer"]
    changed = {entry["concept_id"]: entry for entry in seen["edited"]}
    # The options in the order --set, --add, --scale, --suppress.
    assert sum(0 in entry["edits"] for entry in seen["edited"]) == 2
    assert sum(1 in entry["edits"] for entry in seen["edited"]) == 2
    assert changed[0]["after"] == 0
    assert changed[6]["after"] == pytest.approx(changed[6]["before"] / 2)
    [none] = run(*asked, *edits, "--strength", "0", "--json").rows
    assert none["answer"] == plain["answer"]


def test_a_plan_from_a_file(run: Run, chat_address: str, images: Path, tmp_path: Path) -> None:
    plan = SteeringPlan(
        edits=(
            SteeringEdit(concept=7, op="SET", value=3.0),
            SteeringEdit(concept=8, op="ABLATE", patches=(0, 1)),
        ),
        strength=0.5,
    )
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    asked = ("chat", images / "a.png", "What?", *SHORT, "--plan", path, "--server", chat_address)
    [row] = run(*asked, "--set", "#9=1", "--json").rows
    changed = {entry["concept_id"]: entry for entry in row["images"][0]["edited"]}
    assert set(changed) == {7, 8, 9}
    assert changed[7]["after"] == pytest.approx(0.5 * changed[7]["before"] + 1.5)
    assert changed[9]["after"] == pytest.approx(0.5 * changed[9]["before"] + 0.5)


def test_in_process_gives_what_a_server_gives(
    run: Run, chat_address: str, images: Path, chat_bundle: Path
) -> None:
    asked = ("chat", images / "a.png", "What is this?", *SHORT, "--set", "dog=2", "--json")
    [served] = run(*asked, "--server", chat_address).rows
    [local] = run(*asked, "--bundle", chat_bundle).rows
    for row in (served, local):
        del row["timings"]
    assert served == local


def test_only_chat_loads_the_language_model(
    run: Run, chat_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(bundle: Bundle, config: ServerConfig) -> None:
        raise ModuleNotFoundError(name="torch")

    monkeypatch.setattr("serving.chat.load_chat_model._open", refuse)
    done = run("embed", "--text", "a dog", "--bundle", chat_bundle)
    assert (done.code, done.err) == (0, "")
    done = run("chat", "What?", "--bundle", chat_bundle)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(
        "chat is not installed on this server: pip install 'sparseclip[chat]'\n"
    )


def talk(address: str, lines: str, *arguments: str | Path) -> tuple[str, str]:
    command = ["chat", *map(str, arguments), *SHORT, "--server", address]
    done = CliRunner().invoke(main, command, input=lines)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_a_conversation(run: Run, chat_address: str, images: Path) -> None:
    image, question = images / "a.png", "What is this?"
    plain = run("chat", image, question, *SHORT, "--server", chat_address).out
    steered = run("chat", image, question, *SHORT, "--set", "dog=4", "--server", chat_address).out
    lines = f"{question}\n/set dog=4\n{question}\n\n/reset\n{question}\n/new\n{question}\n/quit\nno"
    out, err = talk(chat_address, lines, image)
    assert out == plain + steered + plain + plain
    assert "dog = 4" in err
    assert "no edits" in err


def test_a_conversation_remembers_until_it_is_told_not_to(chat_address: str, images: Path) -> None:
    ask = "What is this?\n"
    twice, _ = talk(chat_address, ask + ask, images / "a.png")
    anew, _ = talk(chat_address, ask + "/new\n" + ask, images / "a.png")
    assert twice != anew


def test_a_conversation_shows_concepts_and_survives_mistakes(
    chat_address: str, images: Path
) -> None:
    lines = "/set\n/scale dog\n/fly\n/set #999=1\nWhat?\n/suppress #999\n/reset\nWhat?\n/show\n"
    out, err = talk(chat_address, lines, images / "a.png")
    assert err.count("Error: ") == 4
    assert "INVALID_ARGUMENT: messages[0].images[0].steering.edits[0].concept_id" in err
    assert out.count("before:") == out.count("after:") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no.png", "what?"], 1, "no such file"),
        (["no.png"], 2, "--json needs a question"),
        (["https://example.org/cat.png", "what?"], 2, "addresses are not fetched"),
        (["what?", "--set", "dog=2"], 2, "name one"),
        (["what?", "--set", "dog=x"], 2, "not a number"),
        (["what?", "--scale", "dog"], 2, "needs a value"),
        (["what?", "--suppress", " "], 2, "names no concept"),
        (["what?", "--plan", "pyproject.toml"], 2, "plan: not JSON"),
        (["what?", "--temperature", "9"], 1, "sampling.temperature"),
        (["what?", "--max-tokens", "9999"], 1, "sampling.max_tokens"),
        (["what?", "--stop", ""], 1, "sampling.stop[0]"),
        (["what?", "--presence-penalty", "3"], 2, "--presence-penalty"),
        (["what?", "--frequency-penalty", "-3"], 2, "--frequency-penalty"),
        (["what?", "--repetition-penalty", "0"], 2, "--repetition-penalty"),
    ],
)
def test_mistakes_end_with_one_clear_line(
    run: Run, chat_address: str, arguments: list[str], code: int, message: str
) -> None:
    ended = run("chat", *arguments, "--json", "--server", chat_address)
    assert (ended.code, message in ended.err) == (code, True)
    assert "Traceback" not in ended.err


def test_a_server_without_chat(run: Run, address: str) -> None:
    ended = run("chat", "what?", "--server", address)
    assert ended.code == 1
    assert ended.err == "Error: FAILED_PRECONDITION: this model has no chat\n"


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("dog=2", Edit(op="SET", phrase="dog", value=2.0, top=3)),
        ("a red dog", Edit(op="SET", phrase="a red dog", top=3)),
        ("#12", Edit(op="SET", concept=12)),
        ("#12=0.5", Edit(op="SET", concept=12, value=0.5)),
        ("=concept 7=1", Edit(op="SET", concept="concept 7", value=1.0)),
        ("=concept 7", Edit(op="SET", concept="concept 7")),
    ],
)
def test_targets(text: str, edit: Edit) -> None:
    assert parse_edit("SET", text, top=3) == edit


def test_a_later_edit_takes_the_place_of_an_earlier_one() -> None:
    edits = Edits([parse_edit("SET", "dog=2"), parse_edit("ABLATE", "cat")], 1.0)
    edits.put(parse_edit("SCALE", "dog=3"))
    assert str(edits) == "no cat, dog * 3"
    assert json.loads(edits.steering.to_json())["edits"][1]["op"] == "SCALE"
    edits.put(parse_edit("SET", "  CAT"))
    edits.put(parse_edit("ABLATE", "=Dog"))
    assert str(edits) == "CAT = default, no =Dog"


def test_what_an_edit_was_taken_as() -> None:
    edits = [parse_edit("SET", "dog=2"), parse_edit("ABLATE", "cat"), parse_edit("SET", "#3=1")]
    edited = [
        EditedConcept(concept_id=n, name=f"name {n}", before=0.0, after=1.0, edits=by)
        for n, by in ((1, (0, 1)), (2, (1,)), (3, (0, 2)), *((n, (0,)) for n in range(4, 9)))
    ]
    image = ImageConcepts(before=(), after=(), edited=tuple(edited), edited_total=8)
    assert [taken_as(edits, n, [image]) for n in range(3)] == [
        "dog = 2: a phrase, by 7 concepts: name 1, name 4, name 5, name 6, name 7, ...",
        "no cat: a phrase, by 2 concepts: name 2, name 1",
        "#3 = 1: concept 3, name 3",
    ]
    more = dataclasses.replace(image, edited_total=99)
    assert "by 2 or more concepts" in taken_as(edits, 1, [more])


def test_one_word_twice_is_refused(run: Run, chat_address: str, images: Path) -> None:
    asked = ("chat", images / "a.png", "What?", *SHORT, "--server", chat_address)
    ended = run(*asked, "--set", "dog", "--suppress", "Dog")
    assert ended.code == 1
    assert "edits[1].phrase: edited twice, here and in edits[0]" in ended.err


def test_words_that_the_model_does_not_know_are_named_once(
    run: Run, chat_address: str, images: Path
) -> None:
    cropped = f"Warning: {images / 'a.png'}: cropped: 76% of the image read\n"
    warning = f"{cropped}Warning: 'a rocket': unknown words: rocket\n"
    asked = ("chat", images / "a.png", "What?", *SHORT, "--server", chat_address)
    ended = run(*asked, "--set", "a rocket", "--suppress", "red dog", "--json")
    assert (ended.code, ended.err.startswith(warning)) == (0, True)
    taken = ended.err.removeprefix(warning).splitlines()
    assert [line.partition(" concepts: ")[0] for line in taken] == [
        "a rocket = default: a phrase, by 4",
        "no red dog: a phrase, by 4",
    ]
    coverages = {entry["phrase"]: entry["coverage"] for entry in ended.rows[0]["phrases"]}
    assert coverages["a rocket"]["unknown_words"] == ["rocket"]
    assert coverages["red dog"]["unknown_words"] == []
    _, err = talk(chat_address, "/set a rocket\nWhat?\nWhat?\n", images / "a.png")
    assert err.count(warning) == 1
    assert err.count("a rocket = default: a phrase") == 1


def test_a_full_conversation_names_the_way_out(chat_address: str, images: Path) -> None:
    question = "star " * 30 + "\n"
    _, err = talk(chat_address, question * 6 + "/new\nWhat?\n", images / "a.png")
    assert err.count("/new starts another one\n") == err.count("Error: ") > 0
