"""The options of commands that name concepts by a user's vocabulary, and their report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.cli.new_file import refuse_existing, write_new

if TYPE_CHECKING:
    from training.bundling.name_vocabulary import (
        NameVocabulary,
        VocabularyCoverage,
        WordOutcome,
    )

MAX_LISTED = 20
"""Words of one outcome that the terminal shows. The JSON has all of them."""


def vocabulary_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --vocabulary and --coverage."""
    return click.option(
        "--vocabulary",
        type=click.Path(exists=True, path_type=Path),
        help="File of words and phrases of your field, one a line, that may become names."
        "  [default: WordNet's words, for data that `sparseclip data build` wrote]",
    )(coverage_option(command))


def coverage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --coverage."""
    return click.option(
        "--coverage",
        type=click.Path(dir_okay=False, path_type=Path),
        help="New file for what became of each word of the vocabulary, as JSON.",
    )(command)


def check_coverage_file(vocabulary: Path | None, coverage: Path | None) -> None:
    """Ends the command, before its work, when the report has nothing to say or no place."""
    if coverage is None:
        return
    if vocabulary is None:
        raise click.UsageError("--coverage: wants --vocabulary")
    refuse_existing("--coverage", coverage)


def report_coverage(bundle: Path, vocabulary: NameVocabulary | None, file: Path | None) -> None:
    """Says what became of each word in a bundle that was named with it; nothing without words."""
    if vocabulary is None:
        return
    from training.bundling.name_vocabulary import vocabulary_coverage
    from training.evaluation.encoder import BundleEncoder

    encoder = BundleEncoder(bundle)
    concepts, is_cut = encoder.bundle.concepts.concepts, encoder.bundle.tokenizer.is_cut
    show_coverage(vocabulary_coverage(vocabulary, concepts, encoder.texts, is_cut), file)


def show_coverage(coverage: VocabularyCoverage, file: Path | None) -> None:
    """Prints the report, and writes it into a file."""
    from rich.console import Console
    from rich.table import Table

    if file is not None:
        content = json.dumps(coverage.to_dict(), indent=1, ensure_ascii=False)
        write_new("--coverage", file, content + "\n")
    total = len(coverage.words)
    table = Table("words of the vocabulary", "number", "share", title="vocabulary")
    names = coverage.of("name")
    for label, words in (
        ("the name of a concept", names),
        ("evidence for a concept with another name", coverage.of("evidence")),
        ("nothing", coverage.of("nothing")),
        ("unknown to the text tower", coverage.of("silent")),
    ):
        table.add_row(label, f"{len(words):,}", f"{len(words) / total:.0%}")
    console = Console()
    console.print(table)
    for line in _lines(coverage, names):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(coverage: VocabularyCoverage, names: Sequence[WordOutcome]) -> list[str]:
    vocabulary = coverage.vocabulary
    known = [word for word in names if word.confidence is not None]
    best = sorted(known, key=lambda word: (-(word.confidence or 0), word.word))
    lines = [
        f"concepts named by the vocabulary: {coverage.concepts_named:,};"
        f" named at all: {coverage.named:,} of {coverage.active:,} active ones;"
        f" unnamed: {len(coverage.unnamed):,}"
    ]
    if best:
        shown = (f"{word.word} {word.confidence:.0%}" for word in best)
        lines.append(f"confidence of names: {_listed(list(shown))}")
    elif names:
        lines.append(f"names, whose confidence too few images measure: {_texts(names)}")
    for label, outcome in (("nothing", "nothing"), ("unknown to the text tower", "silent")):
        if words := coverage.of(outcome):  # type: ignore[arg-type]
            lines.append(f"{label}: {_texts(words)}")
    if vocabulary.phrases:
        lines.append(f"of two or more words: {len(vocabulary.phrases):,}")
    if coverage.cut:
        lines.append(f"longer than the text tower's context, and cut: {_listed(coverage.cut)}")
    if vocabulary.repeated:
        lines.append(f"repeated lines: {_listed(vocabulary.repeated)}")
    lines += [f"line {at} is left out: {reason}: {text}" for at, text, reason in vocabulary.refused]
    return lines


def _texts(words: Sequence[WordOutcome]) -> str:
    return _listed([word.word for word in words])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_LISTED
    return ", ".join(texts[:MAX_LISTED]) + (f", and {more:,} more" if more > 0 else "")
