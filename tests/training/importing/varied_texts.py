"""Texts of many kinds, for tokenizers that must agree."""

from __future__ import annotations

import random
import unicodedata
from functools import cache

LINES = (
    "a photo of a cat.",
    "A Photo OF: a cat & a dog!!",
    "Một con mèo đang ngồi trên ghế, nhìn ra cửa sổ.",
    "고양이가 창문 옆에 앉아 있다",
    "日本語のテキスト、ﾊﾟｿｺﾝ ｶﾞﾗｽ バ",
    "一只猫坐在窗边，看着外面的鸟。",
    "Привет, МИР!",
    "Ελληνικά ΟΔΟΣ ΣΑΣ ΑΣ'Σ",
    "مُحَمَّد يجلس القط",
    "חתול יושב שּׁ לֹא",
    "हिन्दी पाठ क़ ख़",
    "แมวนั่งอยู่ข้างหน้าต่าง",
    "İstanbul IĞDIR Ǆ ŉ ẞ ß",
    "①②③ ﬁ ﬂ ½ ™ … ％ ～ ~ ℡ ㎏ ﷺ 𝔘𝔫𝔦 𝟘𝟙",
    "👨\u200d👩\u200d👧 👍🏽 ❤️ 🇩🇪",
    "e\u0301 a\u0302\u0323 ①\u0301 Ａ\u0301 …\u0301",
    "tab\tnew\nline\r\nx \u00a0y\u2003z\u200bq\u200dw\ufeffe\u2028 end  ",
    "\x01\x02ctl\x1f\x7f\x85x",
    "▁under▁score",
    "don't you're IT'S o'clock",
    "<b>&amp;</b> &lt; https://example.org/a?b=c#d",
    "a" * 300,
    "word " * 200,
    "snake_case kebab-case CamelCase x=1; y=[2,3]",
)
_SCRIPTS = (
    *((0x21, 0x7F), (0xA1, 0x250), (0x300, 0x340), (0x370, 0x600), (0x900, 0xA00)),
    *((0xE01, 0xE50), (0x1E00, 0x2000), (0x2100, 0x2800), (0x3041, 0x3200), (0x4E00, 0x4F00)),
    *((0xAC00, 0xAD00), (0xFF01, 0xFFE0), (0x1F300, 0x1F650)),
)


@cache
def varied_texts(number: int = 2_000) -> tuple[str, ...]:
    """The lines above, decomposed too, and random mixtures of words and of characters."""
    rng = random.Random(0)
    letters = [
        chr(code)
        for start, stop in _SCRIPTS
        for code in range(start, stop)
        if unicodedata.category(chr(code)) not in {"Cn", "Cs"}
    ]
    words = [word for line in LINES for word in line.split()] + letters[::40]
    texts = [*LINES, *(unicodedata.normalize("NFD", line) for line in LINES)]
    while len(texts) < number:
        if len(texts) % 2:
            texts.append(" ".join(rng.choices(words, k=rng.randint(1, 40))))
        else:
            texts.append("a" + "".join(rng.choices(letters, k=rng.randint(1, 30))))
    return tuple(texts)
