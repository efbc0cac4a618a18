"""What a reply did not see, in words, and the options that choose what is read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from bundle.manifest import Preprocessing
from serving.cli._coverage import notes, shown_concept
from sparseclip import Coverage, ScoredConcept
from tests.serving.cli.conftest import Run


@pytest.mark.parametrize(
    ("coverage", "note"),
    [
        (Coverage(tokens=40, truncated=True), "text cut: 16 of 40 tokens"),
        (Coverage(tokens=3, unknown_words=("rocket", "ufo")), "unknown words: rocket, ufo"),
        (Coverage(framing="crop", image_share=0.25), "cropped: 25% of the image read"),
        (Coverage(framing="pad", image_share=1.0, ground="#404040"), "ground #404040"),
        (Coverage(image_share=1.0, frames=3), "frame 1 of 3"),
    ],
)
def test_each_thing_that_was_not_seen_has_words(coverage: Coverage, note: str) -> None:
    assert notes(coverage, 16, active=3) == [note]
    assert notes(coverage, 16, active=0) == [note, "no concept answers to it"]


def test_what_was_seen_whole_has_no_note() -> None:
    assert notes(Coverage(tokens=16), 16, active=1) == []
    assert notes(Coverage(framing="crop", image_share=0.999, frames=1), 16) == []
    usual = f"#{bytes(Preprocessing.background).hex()}"
    assert notes(Coverage(framing="crop", image_share=1.0, ground=usual, frames=1), 16) == []


def test_a_concept_says_how_far_its_name_can_be_trusted() -> None:
    plain = ScoredConcept(concept_id=1, name="dog", value=1.234)
    assert shown_concept(plain) == "dog 1.23"
    doubtful = ScoredConcept(concept_id=1, name="dog", value=1.0, name_confidence=0.876, hub=True)
    assert shown_concept(doubtful) == "dog 1.00 (name 88%, hub)"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of which the crop reads a quarter."""
    path = tmp_path_factory.mktemp("wide") / "wide.png"
    buffer = io.BytesIO()
    Image.effect_noise((128, 32), 60).convert("RGBA").save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return path


def test_embed_says_what_was_not_read(run: Run, address: str, wide: Path) -> None:
    long = "star " * 40
    command = ("embed", wide, "--text", long, "--server", address)
    shown = run(*command)
    assert shown.code == 0
    assert "cropped: 25% of the image read" in shown.out
    assert "text cut: 16 of 122 tokens" in shown.out
    image, text = run(*command, "--json").rows
    assert image["coverage"]["image_share"] == pytest.approx(0.25)
    assert (text["coverage"]["tokens"], text["coverage"]["truncated"]) == (122, True)
    padded, refused = run(*command, "--framing", "pad", "--refuse-long-texts", "--json").rows
    assert padded["coverage"]["framing"] == "pad"
    assert padded["values"] != image["values"]
    assert refused["error"]["message"] == "text: 122 tokens, the model reads 16"


def test_explain_and_classify_say_it_too(run: Run, address: str, wide: Path) -> None:
    explained = run("explain", wide, "--top", "1", "--server", address)
    assert "cropped: 25% of the image read" in explained.out
    [record] = run("explain", wide, "--framing", "pad", "--json", "--server", address).rows
    assert record["coverage"]["image_share"] == 1.0
    labels = ("--labels", f"dog,{'star ' * 40}")
    classified = run("classify", wide, *labels, "--server", address)
    assert "cropped: 25% of the image read" in classified.out
    assert "text cut: it has 122 tokens" in classified.err
    refused = run("classify", wide, *labels, "--refuse-long-texts", "--server", address)
    assert refused.code == 2
    assert "122 tokens, the model reads 16" in refused.err
