"""Drawings of Debian's `openclipart-svg`: public-domain clip art with titles and tags.

Many titles name a collection instead of what is drawn, and some are Italian or French. Only
drawings whose title says in English what they show are kept.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from training.data.captions import has_word
from training.data.data_recipe import PackageSpec, SetSpec
from training.data.english import EnglishWords
from training.data.icons import Drawing, Dropped

ROOT = "usr/share/openclipart/svg/"
"""Where the drawings lie in the package."""

MAX_SVG_BYTES = 400_000
"""A larger drawing is left out: it takes seconds to render and shows no more."""

MAX_TITLE_USES = 6
"""A title that is used more often names a collection, not a drawing."""

_PUBLIC = re.compile(r'rdf:resource="[^"]*cc/PublicDomain"|licenses/publicdomain', re.IGNORECASE)
_NOISE = re.compile(
    r"clip ?art|collection|theme|icon ?set|submission|unsorted|untitled|\btest\b|buculei|svg|led ",
    re.IGNORECASE,
)
_FOLDERS = re.compile(
    r"shapes/stars/|special/|computer/icons/[^/]+-theme/|games/cards/|architetto|_arch_|archite"
)
_DULL_TAGS = frozenset({"unsorted", "hash", "icons", "icon", "theme", "clip art", "clipart", "svg"})


def read_openclipart(
    set_name: str,
    spec: SetSpec,
    package: PackageSpec,
    files: Mapping[str, bytes],
    english: EnglishWords,
) -> Iterator[Drawing | Dropped]:
    """Every drawing that is worth training on; for each other one, why it is not."""
    described = {path: describe_svg(content) for path, content in sorted(files.items())}
    titles = Counter(title.lower() for title, _ in described.values())
    for path, (title, tags) in described.items():
        name = path.removeprefix(ROOT).removesuffix(".svg")
        reason = _unfit(path, title, files[path], titles)
        caption = re.sub(r"(?<=[a-z])\d+$", "", title)
        if "/flags/" in path and "flag" not in caption.lower():
            caption = f"flag of {caption}"
        if not reason and not english.is_title(caption):
            reason = "title is not English"
        if reason:
            yield Dropped(set=set_name, name=name, reason=reason)
            continue
        yield Drawing(
            set=set_name,
            name=name.replace("/", "-"),
            source=f"{package.label}/{path}",
            licence=spec.licence,
            codepoint=None,
            category=name.split("/")[0].replace("_", "-"),
            content=files[path],
            caption=caption,
            keywords=tuple(tag for tag in tags if english.is_title(tag)),
            trim=True,
        )


def describe_svg(content: bytes) -> tuple[str, tuple[str, ...]]:
    """Cleaned title and tags of a drawing's own metadata; the title is empty when unusable."""
    text = content.decode("utf-8", "replace")
    meta = re.search(r"<metadata.*?</metadata>", text, re.DOTALL)
    if meta is None or not _PUBLIC.search(meta[0]):
        return "", ()
    raw = re.search(r"<dc:title>(.*?)</dc:title>", meta[0], re.DOTALL)
    title = html.unescape(html.unescape(raw[1])) if raw else ""  # some are escaped twice
    title = re.sub(r"\([^)]*\)|\b\d+\b|[_#]+|\s-\s.*$", " ", title)
    title = re.sub(r"\s+", " ", title).strip(" .,-")
    tags = []
    for tag in re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", meta[0], re.DOTALL):
        tag = re.sub(r"[\s_]+", " ", html.unescape(tag)).strip().lower()
        if has_word(tag) and len(tag) <= 25 and tag not in _DULL_TAGS:
            tags.append(tag)
    return title, tuple(dict.fromkeys(tags))


def _unfit(path: str, title: str, content: bytes, titles: Counter[str]) -> str:
    if not title or not title.isascii() or not has_word(title) or _NOISE.search(title):
        return "no meaningful title"
    if titles[title.lower()] > MAX_TITLE_USES or _FOLDERS.search(path) or len(title.split()) > 6:
        return "no meaningful title"
    if len(content) > MAX_SVG_BYTES:
        return "too large"
    if b"<text" in content:
        return "needs fonts"
    return ""
