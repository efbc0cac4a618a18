"""Names of files as text: every name has one spelling, and comes back from it."""

from __future__ import annotations

import os

from hypothesis import example, given
from hypothesis import strategies as st

from serving.storage.file_names import printable, spell, unspell


@given(st.binary())
@example(b"caf\xe9.jpg")
@example(rb"a\xe9")
@example(rb"a\\x5cx\x")
@example("猫\n".encode())
def test_a_name_comes_back_from_its_spelling(name: bytes) -> None:
    spelled = spell(os.fsdecode(name))
    assert os.fsencode(unspell(spelled)) == name
    spelled.encode()
    assert printable(spelled).isprintable()


def test_a_name_of_utf_8_is_spelled_as_it_is() -> None:
    for name in ("a.jpg", "two\nlines", "猫", r"back\slash", r"a\\b", ""):
        assert spell(name) == name
    assert spell(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert spell(r"caf\xe9") == r"caf\x5cxe9"
