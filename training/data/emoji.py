"""The emoji table: labels, keywords and names of every codepoint, and codepoints by icon name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from training.data.captions import emoji_caption, has_word, name_caption, name_key

SHORTCODES = ("cldr", "emojibase", "joypixels", "github", "iamcal", "emojibase-legacy")
"""Shortcode lists in the order in which they may claim a name."""

FILES = frozenset(
    {"en/data.json", "meta/groups.json", "meta/unicode-names.json"}
    | {f"en/shortcodes/{name}.json" for name in SHORTCODES}
)
"""The files of `emojibase-data` that this module reads."""

TONE = re.compile(r"(^|[-_ ])(tone-?[1-5]|(light|medium|dark)-skin-tone)([-_ ]|$)")
_TONE_CODES = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """One emoji without skin tone."""

    codepoint: str
    """Lower-case hex, joined by `-`, without variation selectors."""
    label: str
    """The CLDR short name."""
    keywords: tuple[str, ...]
    category: str
    subgroup: str
    names: tuple[str, ...]
    """Other phrases for it, from two shortcode lists."""
    aliases: tuple[str, ...]
    """All of its names, by which a held-out emoji is kept out of training."""

    @property
    def caption(self) -> str:
        """The canonical caption, the same in every style."""
        return emoji_caption(self.label)


def codepoint_key(code: str) -> str:
    """Hex codes in one spelling: `1F468-200D-2696-FE0F` -> `1f468-200d-2696`."""
    return "-".join(p for p in code.lower().replace("_", "-").split("-") if p not in _SELECTORS)


_SELECTORS = frozenset({"fe0e", "fe0f"})


def has_skin_tone(codepoint: str) -> bool:
    """Whether a codepoint sequence holds a skin tone (the five swatches themselves included)."""
    return not _TONE_CODES.isdisjoint(codepoint.split("-"))


def flag_codepoint(code: str) -> str:
    """The emoji of an ISO 3166 code: `no` -> `1f1f3-1f1f4`, `gb-eng` -> its tag sequence."""
    code = {"gb-sct": "gb-sct", "sh-ac": "ac", "sh-ta": "ta"}.get(code, code)
    if re.fullmatch(r"[a-z]{2}", code):
        return "-".join(f"{0x1F1E6 + ord(c) - 97:x}" for c in code)
    if code in ("gb-eng", "gb-sct", "gb-wls"):
        tags = [f"{0xE0000 + ord(c):x}" for c in code.replace("-", "")]
        return "-".join(["1f3f4", *tags, "e007f"])
    return ""


class EmojiTable:
    """Every emoji by codepoint, and by any name a drawing set may give it."""

    def __init__(self, emoji: Mapping[str, Emoji], names: Mapping[str, str]) -> None:
        self._emoji = dict(emoji)
        self._names = dict(names)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> EmojiTable:
        """Read the files of `emojibase-data` named in FILES."""
        groups = json.loads(files["meta/groups.json"])
        codes: dict[str, dict[str, list[str]]] = {}
        for name in SHORTCODES:
            shortcodes = json.loads(files[f"en/shortcodes/{name}.json"])
            codes[name] = {
                codepoint_key(code): [value] if isinstance(value, str) else list(value)
                for code, value in shortcodes.items()
            }
        table: dict[str, Emoji] = {}
        for raw in json.loads(files["en/data.json"]):
            emoji = _emoji(raw, groups, codes)
            if emoji is not None:
                table[emoji.codepoint] = emoji
        names: dict[str, str] = {}
        for emoji in table.values():
            names.setdefault(name_key(emoji.label), emoji.codepoint)
        for name in SHORTCODES:
            for code, aliases in codes[name].items():
                for alias in aliases:
                    if code in table:
                        names.setdefault(name_key(alias), code)
        for code, formal in json.loads(files["meta/unicode-names.json"]).items():
            if codepoint_key(code) in table:
                names.setdefault(name_key(formal), codepoint_key(code))
        names.pop("", None)
        return cls(table, names)

    def __len__(self) -> int:
        return len(self._emoji)

    def values(self) -> Iterable[Emoji]:
        """All emoji, in the order of `emojibase-data`."""
        return self._emoji.values()

    def add_names(self, names: Mapping[str, str]) -> None:
        """Adds icon name -> codepoint pairs of a set that carries codepoints."""
        for name, code in names.items():
            code = codepoint_key(code)
            if code in self._emoji and not TONE.search(name):
                self._names.setdefault(name_key(name), code)

    def get(self, codepoint: str) -> Emoji | None:
        """The emoji of a codepoint, in any spelling."""
        return self._emoji.get(codepoint_key(codepoint))

    def find(self, name: str) -> Emoji | None:
        """The emoji an icon name means, by any known label, shortcode or Unicode name."""
        flag = re.sub(r"^flag-for-(flag-)?", "flag-", name)
        for form in (
            name,
            re.sub(r"-\d+$", "", name),
            flag,
            flag.removeprefix("flag-") if flag != name else "",
            re.sub(r"[-_ ]?(icon|symbol|sign)$", "", name),
        ):
            code = self._names.get(name_key(form)) if form else None
            if code is not None:
                return self._emoji[code]
        return None


def _emoji(
    raw: Mapping[str, Any], groups: Mapping[str, Any], codes: Mapping[str, Mapping[str, list[str]]]
) -> Emoji | None:
    code = codepoint_key(raw["hexcode"])
    # Regional indicators have no group: they are letters that only mean something in pairs.
    if raw.get("group") is None or has_skin_tone(code):
        return None
    phrases: dict[str, str] = {}
    for name in ("cldr", "emojibase"):
        for alias in codes[name].get(code, ()):
            phrase = name_caption(alias)
            if has_word(phrase) and not re.fullmatch(r"flag [a-z]{2}", phrase):
                phrases.setdefault(name_key(phrase), phrase)
    phrases.pop(name_key(raw["label"]), None)
    phrases.pop(name_key(emoji_caption(raw["label"])), None)
    every = {raw["label"], emoji_caption(raw["label"])}
    every |= {name_caption(alias) for name in SHORTCODES for alias in codes[name].get(code, ())}
    tags = [tag.replace("’", "'") for tag in raw.get("tags", ())]
    return Emoji(
        codepoint=code,
        label=raw["label"].replace("’", "'"),
        keywords=tuple(tag for tag in tags if has_word(tag)),
        category=groups["groups"][str(raw["group"])],
        subgroup=groups["subgroups"].get(str(raw.get("subgroup")), ""),
        names=tuple(phrases.values())[:3],
        aliases=tuple(sorted(every)),
    )
