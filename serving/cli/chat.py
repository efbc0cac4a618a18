"""`sparseclip chat`: questions about images, under edits of their concepts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bundle.image_formats import IMAGE_SUFFIXES
from serving.cli._chat_repl import ChatAnswer, ChatSession, print_text
from serving.cli._connection import Target, target_options
from serving.cli._coverage import framing_option
from serving.cli._edits import Edits, parse_edit, read_plan
from serving.cli._inputs import expand
from serving.cli._output import as_record, print_json
from sparseclip import ChatSampling, Edit, ImageFraming


@click.command()
@click.argument("words", nargs=-1, metavar="[IMAGE|FOLDER]... [QUESTION]")
@click.option(
    "--set", "sets", multiple=True, metavar="WORD[=VALUE]", help="Set the activation of WORD."
)
@click.option(
    "--add",
    "adds",
    multiple=True,
    metavar="WORD=VALUE",
    help="Add VALUE to the activation of WORD.",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    metavar="WORD=FACTOR",
    help="Multiply the activation of WORD by FACTOR.",
)
@click.option(
    "--suppress",
    "suppressed",
    multiple=True,
    metavar="WORD",
    help="Set the activation of WORD to 0.",
)
@click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read edits and strength from a JSON file; the options above add edits to it.",
)
@click.option(
    "--strength", type=click.FloatRange(0, 1), help="How much of the edits to apply.  [default: 1]"
)
@click.option(
    "--top", type=click.IntRange(min=1), help="Concepts per word. Default: the adapter's number."
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="Maximum number of tokens in an answer."
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Randomness of the answer; 0 takes the likeliest token.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Seed of the random choice of tokens.",
)
@click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End the answer before TEXT.")
@click.option(
    "--presence-penalty",
    type=click.FloatRange(-2, 2),
    default=0.0,
    help="Lower the chance of tokens that the answer has.",
)
@click.option(
    "--frequency-penalty",
    type=click.FloatRange(-2, 2),
    default=0.0,
    help="Lower the chance of tokens, the more often the answer has them.",
)
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(0.01, 2),
    default=1.0,
    help="Divide the logits of tokens that the answer has.",
)
@framing_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@target_options(timeout=60.0)
def chat(
    target: Target,
    words: tuple[str, ...],
    sets: tuple[str, ...],
    adds: tuple[str, ...],
    scales: tuple[str, ...],
    suppressed: tuple[str, ...],
    plan: Path | None,
    strength: float | None,
    top: int | None,
    max_tokens: int | None,
    temperature: float,
    seed: int,
    stops: tuple[str, ...],
    presence_penalty: float,
    frequency_penalty: float,
    repetition_penalty: float,
    framing: ImageFraming | None,
    as_json: bool,
) -> None:
    """Ask about images. Without a question, start a conversation: one question per line.

    A WORD is any word or phrase, or `#123` for a concept by its id, or `=name` for a concept by
    its exact name. Edits apply to every image.
    """
    images, question = _split(words)
    if as_json and question is None:
        raise click.UsageError("--json needs a question")
    steering = read_plan(plan) if plan else None
    edits: list[Edit] = [*(steering.edits if steering else ())]
    edits += [parse_edit("SET", text, top or 0) for text in sets]
    edits += [parse_edit("ADD", text, top or 0) for text in adds]
    edits += [parse_edit("SCALE", text, top or 0) for text in scales]
    edits += [parse_edit("ABLATE", text, top or 0) for text in suppressed]
    if edits and not images:
        raise click.UsageError("edits apply to images: name one")
    if strength is None:
        strength = steering.strength if steering else 1.0
    sampling = ChatSampling(
        max_tokens=max_tokens or 0,
        temperature=temperature,
        seed=seed,
        stop=stops,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        repetition_penalty=repetition_penalty,
    )
    with target.open(chat=True) as client:
        session = ChatSession(
            client,
            images,
            Edits(edits, strength),
            sampling,
            target.timeout,
            top=top or 0,
            framing=framing,
        )
        if question is None:
            session.run()
        elif as_json:
            print_json(_record(images, question, session.ask(question, lambda text: None)))
        else:
            session.ask(question, print_text)
            click.echo()


def _split(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Images, and the question: the last word, unless it names a file or a folder."""
    if not words or _is_path(words[-1]):
        return expand(words), None
    return expand(words[:-1]), words[-1]


def _is_path(word: str) -> bool:
    path = Path(word)
    try:
        return path.suffix.lower() in IMAGE_SUFFIXES or path.exists()
    except OSError:  # a question may be too long for a path
        return False


def _record(images: Sequence[str], question: str, answer: ChatAnswer) -> dict[str, Any]:
    return {
        "question": question,
        "answer": answer.text,
        "finish": answer.end.finish,
        "stop": answer.end.stop,
        "images": [
            {"source": source} | as_record(concepts)
            for source, concepts in zip(images, answer.start.images, strict=True)
        ],
        "phrases": [as_record(entry) for entry in answer.start.phrases],
        "usage": as_record(answer.end.usage),
        "timings": as_record(answer.end.timings),
        "model": as_record(answer.start.model),
        "engine": answer.start.engine,
    }
