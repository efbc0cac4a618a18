"""From edits to a plan: a concept's own edit, those of phrases, and what is refused."""

from __future__ import annotations

import pytest

from serving.chat.chat_request import Phrase, RequestedEdit
from serving.core.errors import ServingError
from tests.serving.chat.codes import RESOLVE, image, phrase_codes


def test_a_concepts_own_edit_goes_before_those_of_phrases() -> None:
    codes = phrase_codes(dog={5: 3.0, 8: 2.0, 9: 1.0, 10: 0.5}, cat={8: 9.0, 9: 8.0})
    resolved = RESOLVE(
        image(
            RequestedEdit(target=Phrase(text="dog"), op="SET"),
            RequestedEdit(target=Phrase(text="cat", top=1), op="ABLATE"),
            RequestedEdit(target="star", op="ADD", value=-0.5, patches=(3,)),
        ),
        codes,
    )
    plan = {edit.concept: edit for edit in resolved.plan.edits}
    assert set(plan) == {5, 8, 9}
    assert (plan[5].op, plan[5].value, plan[5].patches) == ("SET", 2.0, None)
    assert plan[8].op == "SET"
    assert (plan[9].op, plan[9].value, plan[9].patches) == ("ADD", -0.5, (3,))
    assert resolved.sources == {5: (0,), 8: (0, 1), 9: (0, 2)}


DOG_ID = RequestedEdit(target=5, op="ABLATE")  # the concept of the name "dog"
SPELLINGS = ["dog", "Dog", " DOG\n", "d\u00adog", "do\u200bg", "\uff44\uff4f\uff47", "dog\ufe0f"]


@pytest.mark.parametrize("again", [DOG_ID, RequestedEdit(target="dog", op="SCALE"), *SPELLINGS])
def test_one_target_is_edited_once_however_it_is_spelled(again: str | RequestedEdit) -> None:
    codes = {text: phrase_codes(x={5: 3.0})["x"] for text in SPELLINGS}
    if isinstance(again, str):
        again = RequestedEdit(target=Phrase(text=again), op="ABLATE")
    star = RequestedEdit(target="star", op="ABLATE")
    for first in (RequestedEdit(target=Phrase(text="dog"), op="SET"), DOG_ID):
        with pytest.raises(ServingError) as caught:
            RESOLVE(image(first, star, again), codes)
        assert caught.value.field == f"at.steering.edits[2].{again.field}"
        assert caught.value.message.endswith("edited twice, here and in edits[0]")


def test_a_phrase_without_concepts_is_named() -> None:
    codes = phrase_codes(dog={5: 3.0}, nothing={})
    with pytest.raises(ServingError, match="no concept answers") as caught:
        RESOLVE(
            image(
                RequestedEdit(target=Phrase(text="dog"), op="SET"),
                RequestedEdit(target=Phrase(text="nothing"), op="ABLATE"),
            ),
            codes,
        )
    assert caught.value.field == "at.steering.edits[1].phrase"
