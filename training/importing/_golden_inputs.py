"""Images and texts on which an imported model is compared with the source library's own."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIZES = (
    (640, 480),
    (333, 517),
    (224, 224),
    (97, 61),
    (1023, 257),
    (181, 1201),
    (31, 29),
    (801, 800),
    (300, 451),
    (1280, 719),
)
"""Width and height: wide, tall, odd, square, and smaller than any model's input."""


def golden_images() -> list[Image.Image]:
    """Opaque RGB images and two grey ones, the same on each call: fields, shapes and noise."""
    images = [varied_image(size, seed) for seed, size in enumerate(SIZES)]
    return [*images, images[1].convert("L"), images[3].convert("L")]


def varied_image(size: tuple[int, int], seed: int) -> Image.Image:
    """An RGB image of a width and a height: waves, noise and eight shapes."""
    random, (width, height) = np.random.default_rng(seed), size
    rows, columns = np.mgrid[0:height, 0:width]
    waves = random.uniform(0.005, 0.08, (3, 2))
    phase = random.uniform(0, 6, 3)
    field = np.sin(rows[..., None] * waves[:, 0] + columns[..., None] * waves[:, 1] + phase)
    noise = random.normal(0, 12, (height, width, 3))
    image = Image.fromarray((127 + 90 * field + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(1, 1 + min(size) / 3)
        box = (x - radius, y - radius, x + radius, y + radius)
        colour = tuple(random.integers(0, 256, 3).tolist())
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=colour)
    return image


PROMPTS = (
    "a photo of a dog",
    "a red car beside a blue house",
    "two people riding bicycles in the rain",
    "a bowl of soup on a wooden table",
    "an X-ray of a chest",
    "a drawing of a sailboat",
    "aerial view of a city at night",
    "text that says STOP",
    "a close-up of a flower, macro photography",
    "an empty street",
    "a cat",
    "a very long caption about a market with fruit, vegetables, fish, bread, flowers and spices, "
    "where people of all ages walk, talk, buy, sell, laugh and eat under coloured umbrellas",
)
"""Texts whose vectors are compared."""

_SHORT = (
    "A photo of a Dog.",
    "ALL CAPITALS",
    "camelCase and snake_case",
    "don't, can't, won't, it's, they'll, we've",
    "I'd've",
    "'quoted' \"double\" `ticks`",
    "(brackets) [square] {curly} <angle>",
    "a,b;c:d.e!f?g",
    "...",
    "--- ___ ***",
    "100% of $1,234.56 is €1.234,56",
    "1st 2nd 3rd 4th",
    "3.14159265358979",
    "10^-3 × 2² = ½",
    "5'10\" tall",
    "#hashtag",
    "user@example.org",
    "www.example.org/a/b?c=d&e=f",
    "C++ C# F# .NET",
    "a/b\\c",
    "~tilde~ ^caret^",
    "50°C, 10µm",
    "tabs\tand\ttabs",
    "  spaces   around  ",
    "new\nline",
    "&amp; &lt; &gt;",
    "café cafe\u0301",
    "naïve résumé",
    "Straße, Äpfel, Öl, Übung",
    "¿Dónde está el niño?",
    "garçon, œuvre, Noël",
    "Łódź i Żółć",
    "čeština",
    "İstanbul'da ışık",
    "Ελληνικά κείμενα",
    "Русский текст",
    "Україна",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "日本語のテキスト",
    "中文文本，测试。",
    "한국어 텍스트",
    "Tiếng Việt",
    "😀",
    "🐶🐱 pets",
    "❤ ☀ ☔",
    "🇩🇪 🇺🇸",
    "👍🏽 ok",
    "☃❄",
    "ﬁne ﬂow",
    "ＦＵＬＬＷＩＤＴＨ",
    "Ⅰ Ⅱ Ⅲ",
    "‘curly’ “quotes”",
    "en–dash em—dash",
    "ellipsis…",
    "« guillemets »",
    "™ © ®",
    "¼ ½ ¾",
    "∀x∈ℝ: x²≥0",
    "𝓐𝓑𝓒",
    "← ↑ → ↓",
    "■□▲",
    "\u00a0no\u00a0break",
    "a\u3000b",
    "schÃ¶n",
    "ŉ ǆ",
    "a",
    "I",
    "z9",
    "_",
    "-",
    ".",
    "supercalifragilisticexpialidocious",
    "antidisestablishmentarianism",
    "zzzzzzzzzzzzzzzzzzzz",
)

CORPUS: tuple[str, ...] = (
    *PROMPTS,
    *_SHORT,
    "word " * 120,
    "a" * 700,
    "猫" * 90,
    "🐶 " * 60,
    "A Photo, of: the (very) long; text! " * 25,
)
"""Texts whose token ids are compared. None is empty, holds a character that is to be ignored, or
names a special token: there bundles have a rule of their own (see bundle.text)."""
