"""Names of files as text that every format, column and terminal can hold.

On Linux a name is bytes, and not always UTF-8. Python keeps a byte that is not UTF-8 as a lone
surrogate, which cannot be written anywhere. Here it is written as `\\xNN`, and a backslash before
an `x` as `\\x5c`, so that each name has a spelling of its own. All other names are spelled as they
are.
"""

from __future__ import annotations

import re

_NOT_UTF8 = re.compile("[\udc80-\udcff]|[\ud800-\udfff]")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def spell(name: str) -> str:
    """A file's name, as `os` gives it, as text without lone surrogates."""
    if "\\x" in name:
        name = name.replace("\\x", "\\x5cx")
    return name if name.isascii() else _NOT_UTF8.sub(_escape, name)


def unspell(text: str) -> str:
    """The name that `spell` gave this text for, as `os` takes it."""
    if "\\x" not in text:
        return text
    data = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
    return data.decode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """A text for one line of a terminal: what would move the cursor, or cannot be written, is
    escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogateescape: the low byte is the byte in the name
        return f"\\x{code - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass"))
