"""SentencePiece's character map, against a map built by hand; tests of the import compare whole
tokenizers with SentencePiece."""

from __future__ import annotations

import base64
import struct

import pytest

from bundle.character_map import CharacterMap, CharacterMapError

RULES = {
    "①": "1",
    "e\u0301": "é",
    "e\u0302": "ê",
    "e\u0302\u0301": "ế",
    "\u3000": " ",
    "\u200b": "",
}


def compiled(rules: dict[str, str]) -> bytes:
    """The bytes of a map: a double array as Darts lays it out, a block of 256 for each node."""
    replacements, starts = b"", {}
    for sequence, replacement in rules.items():
        starts[sequence.encode()] = len(replacements)
        replacements += replacement.encode() + b"\0"
    prefixes = {key[:length] for key in starts for length in range(len(key) + 1)}
    blocks = {prefix: 256 * (number + 1) for number, prefix in enumerate(sorted(prefixes))}
    units = [0] * (256 * (len(blocks) + 1))
    places = {b"": 0}

    def place(prefix: bytes) -> int:
        if prefix not in places:
            places[prefix] = blocks[prefix[:-1]] ^ prefix[-1]
        return places[prefix]

    for prefix in sorted(prefixes, key=len):
        offset = place(prefix) ^ blocks[prefix]
        # Offsets over 2**21 are counted in blocks of 256, which bit 9 says; here some others are.
        shifted = offset >> 8 << 10 | 1 << 9 if offset % 256 == 0 else offset << 10
        label = prefix[-1] if prefix else 0
        units[place(prefix)] = shifted | label | (1 << 8 if prefix in starts else 0)
        if prefix in starts:
            units[blocks[prefix]] = 1 << 31 | starts[prefix]
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + replacements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("a①b", "a1b"),
        ("e\u0302\u0301", "ế"),
        ("e\u0302x", "êx"),
        ("e\u0301e\u0302e", "éêe"),
        ("①\u0301", "1\u0301"),
        ("\u3000a \u3000 b\u3000", "a b"),
        ("a\u200bb", "ab"),
        ("猫 ü 😀", "猫 ü 😀"),
        ("", ""),
    ],
)
def test_the_longest_sequence_is_replaced(text: str, expected: str) -> None:
    assert CharacterMap.read(compiled(RULES))(text) == expected


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0\0", struct.pack("<I", 7) + b"1234567\0", struct.pack("<I", 400) + b"\0", b"x" * 50],
)
def test_other_bytes_are_no_map(blob: bytes) -> None:
    with pytest.raises(CharacterMapError, match="not a character map"):
        CharacterMap.read(blob)


def test_a_damaged_map_changes_texts_but_never_fails() -> None:
    blob = compiled(RULES)
    for step in (37, 101, 1009):
        damaged = bytearray(blob)
        for position in range(4, len(blob) - 1, step):
            damaged[position] ^= 0xFF
        damaged[0:4] = blob[0:4]
        CharacterMap.read(bytes(damaged))("a①e\u0302\u0301 猫\u3000😀ü")


def test_a_tokenizers_normalizer_must_be_a_map() -> None:
    encoded = base64.b64encode(compiled(RULES)).decode()
    good = {"type": "Precompiled", "precompiled_charsmap": encoded}
    assert CharacterMap.of_normalizer(good)("①") == "1"
    for bad in (None, {"type": "NFC"}, {"type": "Precompiled"}, good | {"precompiled_charsmap": 3}):
        with pytest.raises(CharacterMapError):
            CharacterMap.of_normalizer(bad)
