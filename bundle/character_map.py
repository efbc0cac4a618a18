"""The character map of a SentencePiece model, applied as SentencePiece itself does it."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MAPPED = re.compile(r"[\s\S]?[^\x20-\x7e]+")
"""What may change: printable ASCII stays, except before an accent that is joined to it."""


class CharacterMapError(ValueError):
    """A character map that is not one."""


@dataclass(frozen=True)
class CharacterMap:
    """Replaces, from left to right, the longest sequence of characters that the map has.

    The library `tokenizers` runs the same map under the name `Precompiled`, but by whole grapheme
    clusters and with the shortest match, so it reads decomposed Korean and Vietnamese and
    half-width Japanese otherwise. The map is a double array (Darts): each unit has the label of the
    byte that leads to it, the offset of its children, and whether a sequence ends there. See
    `Normalizer::NormalizePrefix` in SentencePiece's src/normalizer.cc.
    """

    units: array[int]
    """The double array, of 32 bits each."""
    replacements: bytes
    """UTF-8, each ended by a zero."""
    known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What stretches of a text became; kept for characters that come again."""

    @classmethod
    def read(cls, blob: bytes) -> CharacterMap:
        """Reads a `precompiled_charsmap`: the size of the double array, it, and the replacements.

        Raises CharacterMapError for bytes that do not have this form.
        """
        if len(blob) < 4:
            raise CharacterMapError("not a character map")
        (size,) = struct.unpack_from("<I", blob)
        if size % 4 or not 0 < size <= len(blob) - 4 or not blob.endswith(b"\0"):
            raise CharacterMapError("not a character map")
        units = array("I", struct.unpack_from(f"<{size // 4}I", blob, 4))
        return cls(units, blob[4 + size :])

    @classmethod
    def of_normalizer(cls, normalizer: Mapping[str, Any] | None) -> CharacterMap:
        """The map of the field `normalizer` of a tokenizer.json, which must be a `Precompiled`.

        Raises CharacterMapError for another one.
        """
        if not normalizer or normalizer.get("type") != "Precompiled":
            raise CharacterMapError("the normalizer must be a character map")
        try:
            return cls.read(base64.b64decode(normalizer["precompiled_charsmap"], validate=True))
        except (KeyError, TypeError, binascii.Error):
            raise CharacterMapError("not a character map") from None

    def __call__(self, text: str) -> str:
        """The text after the map, with single spaces and none at its ends."""
        return " ".join(word for word in _MAPPED.sub(self._replaced, text).split(" ") if word)

    def _replaced(self, match: re.Match[str]) -> str:
        stretch = match.group()
        mapped = self.known.get(stretch)
        if mapped is None:
            mapped = self._mapped(stretch)
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[stretch] = mapped
        return mapped

    def _mapped(self, stretch: str) -> str:
        data, parts, position = stretch.encode(), [], 0
        while position < len(data):
            length, replacement = self._longest(data, position)
            if length:
                parts.append(self.replacements[replacement:].partition(b"\0")[0])
            else:
                length = _LENGTHS[data[position] >> 4]
                parts.append(data[position : position + length])
            position += length
        return b"".join(parts).decode(errors="replace")

    def _longest(self, data: bytes, start: int) -> tuple[int, int]:
        """The bytes of the longest sequence at `start`, and where its replacement is; (0, 0) where
        the map has none."""
        units, longest = self.units, (0, 0)
        node = _offset(units[0])
        for position in range(start, len(data)):
            node ^= data[position]
            # A damaged map may lead beyond its end.
            if node >= len(units) or units[node] & _LABEL != data[position]:
                break
            unit = units[node]
            node ^= _offset(unit)
            if unit & _ENDS and node < len(units):
                longest = position + 1 - start, units[node] & _VALUE
        return longest


_LABEL, _ENDS, _VALUE = 0x8000_00FF, 1 << 8, 0x7FFF_FFFF

_LENGTHS = dict.fromkeys(range(12), 1) | {12: 2, 13: 2, 14: 3, 15: 4}
"""Bytes of a UTF-8 character by the upper half of its first one."""

_MOST_KNOWN = 10_000


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)
