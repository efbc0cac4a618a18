"""The studio without a mouse, on a phone, for axe, and before names that would be markup."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bundle.concepts import ConceptVocabulary
from tests.serving.studio.browser import AXE, StudioPage, server, tab
from tests.serving.support.running_server import encoded_image
from tests.support.resealing import reseal

pytestmark = pytest.mark.browser
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
MARKUP = "<img src=x onerror=alert(1)>"


def _axe(studio: StudioPage) -> list[str]:
    found = studio.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def _paint(studio: StudioPage, columns: tuple[int, int], rows: tuple[int, int]) -> None:
    """Paints the patches from one corner to another, row by row."""
    studio.page.click("#paint")
    box = studio.page.locator("#patches").bounding_box()
    side = box["width"] / 7
    x = [box["x"] + (column + 0.5) * side for column in columns]
    for row in range(rows[0], rows[1] + 1):
        y = box["y"] + (row + 0.5) * side
        studio.page.mouse.move(x[0], y)
        studio.page.mouse.down()
        studio.page.mouse.move(x[1], y, steps=8)
        studio.page.mouse.up()
    studio.page.click("#paint")


def _fill(studio: StudioPage) -> None:
    """Brings all parts of the page up."""
    studio.answered()
    studio.add_word("dog")
    studio.slide(0, 0.3)
    studio.page.locator("#bars .knock").nth(3).click()
    studio.answered()
    studio.wait("#audit .joined li")
    studio.page.fill("#search-word", "cat")
    studio.page.press("#search-word", "Enter")
    studio.wait("#hits li")
    studio.page.select_option("#compare-with", "cat.png")
    studio.wait("#compare table")
    studio.page.click("#paint")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing(browser: Any, studio_address: str, scheme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip(f"{AXE} is not there: make test-browser fetches it")
    size = {"width": width, "height": 900}
    # Colours that are half-way to others are not looked at.
    options = {"color_scheme": scheme, "viewport": size, "reduced_motion": "reduce"}
    with tab(browser, studio_address, **options) as studio:
        studio.page.context.add_init_script(path=AXE)
        studio.open()
        assert _axe(studio) == []
        _fill(studio)
        assert _axe(studio) == []
        studio.page.fill("#word", "boat")
        studio.wait("#word-options li")
        assert _axe(studio) == []


def test_everything_is_reached_by_the_keyboard(studio_page: StudioPage) -> None:
    keyboard = studio_page.page.keyboard
    studio_page.answered()
    studio_page.page.locator("#bars .name").first.focus()
    keyboard.press("ArrowDown")
    assert studio_page.state("state.selected") == studio_page.state("state.ranked[1]")
    keyboard.press("Tab")
    for _ in range(20):
        keyboard.press("ArrowLeft")
    assert studio_page.state("state.edits[0].value") == pytest.approx(0.8)
    keyboard.press("k")
    assert studio_page.state("state.edits[0].op") == "ablate"
    keyboard.press("k")
    assert studio_page.state("state.edits.length") == 0
    studio_page.page.evaluate("() => document.activeElement.blur()")
    keyboard.press("/")
    keyboard.type("dog")
    studio_page.wait("#word-options [role=option]")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    studio_page.wait("#edits .edit")
    studio_page.page.locator("#paint").focus()
    keyboard.press("Enter")
    for key in ("Space", "ArrowRight", "Space", "ArrowDown", "Space", "Escape"):
        keyboard.press(key)
    assert studio_page.state("[...state.region].sort()") == [0, 1, 8]
    keyboard.press("Control+Enter")
    assert studio_page.answered()
    focused = studio_page.page.evaluate(
        "() => getComputedStyle(document.activeElement).outlineStyle"
    )
    assert focused == "solid"


def test_tab_goes_through_the_page_and_leaves_it(studio_page: StudioPage) -> None:
    seen = []
    for _ in range(220):
        studio_page.page.keyboard.press("Tab")
        seen.append(studio_page.page.evaluate("() => document.activeElement.id"))
        if seen[-1] == "copy":
            break
    for name in ("share", "theme", "knock-shown", "paint", "choose", "word", "strength", "ask"):
        assert name in seen, name
    assert seen[-1] == "copy"


def test_a_phone_shows_all_within_its_width(browser: Any, studio_address: str) -> None:
    with tab(browser, studio_address, **PHONE) as studio:
        studio.open()
        _fill(studio)
        width = studio.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390
        studio.page.locator("#bars .slider").nth(10).scroll_into_view_if_needed()
        box = studio.page.locator("#stage").bounding_box()
        assert 0 <= box["y"] < 100, "the picture stays in sight"
        studio.check()


def test_no_part_of_the_page_lies_on_another(studio_page: StudioPage) -> None:
    studio_page.add_word("dog")
    for width in (360, 704, 768, 896, 912, 1024, 1248, 1264, 1280, 1366, 1440):
        studio_page.page.set_viewport_size({"width": width, "height": 800})
        wide = studio_page.page.evaluate(
            "() => [document.documentElement, ...document.querySelectorAll('main > section')]"
            ".filter((part) => part.clientWidth && part.scrollWidth > part.clientWidth)"
            ".map((part) => `${part.id}: ${part.scrollWidth}, not ${part.clientWidth}`)"
        )
        assert not wide, width


@pytest.fixture(scope="module")
def hostile(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose concepts and pictures have names of markup."""
    folder = tmp_path_factory.mktemp("hostile")
    bundle = folder / "tiny" / "3"
    shutil.copytree(chat_bundle, bundle)
    path = bundle / "concepts.jsonl"
    named = [
        dataclasses.replace(concept, name=f"{MARKUP}{concept.id}", aliases=(MARKUP,))
        for concept in ConceptVocabulary.open(path).concepts
    ]
    ConceptVocabulary.write(path, named)
    reseal(bundle)
    pictures = folder / "pictures"
    pictures.mkdir()
    for seed in range(5):
        name = f"{seed}{MARKUP.replace('/', '')}.png"
        (pictures / name).write_bytes(encoded_image(seed))
    with server(bundle, "--gallery", str(pictures)) as address:
        yield address


def test_names_that_would_be_markup_are_text(browser: Any, hostile: str) -> None:
    with tab(browser, hostile) as studio:
        studio.open()
        assert all(name.startswith(MARKUP) for name in studio.names())
        studio.page.fill("#word", MARKUP)
        studio.page.locator("#word-options", has_text=MARKUP).wait_for()
        studio.page.press("#word", "Enter")
        studio.wait("#edits .edit")
        studio.page.locator("#bars .name").nth(1).click()
        studio.page.locator("#card-name", has_text=MARKUP).wait_for()
        studio.page.click("#search-picture")
        studio.wait("#hits li")
        studio.page.locator("#compare-with").select_option(index=2)
        studio.wait("#compare table")
        studio.slide(0, 0)
        studio.page.locator("#edits", has_text=MARKUP).wait_for()
        assert studio.page.locator("img[src='x']").count() == 0
        studio.check()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("studio_light", {"color_scheme": "light"}),
        ("studio_dark", {"color_scheme": "dark"}),
        ("studio_phone", {"color_scheme": "light", **PHONE}),
    ],
)
def test_pictures_of_the_page(
    browser: Any, studio_address: str, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """Written where SPARSECLIP_ASSETS says; docs/studio.md shows them."""
    folder = Path(os.environ.get("SPARSECLIP_ASSETS", tmp_path))
    with tab(browser, studio_address, **options) as studio:
        studio.open()
        studio.answered()
        if name == "studio_dark":
            _paint(studio, columns=(4, 6), rows=(0, 6))
            studio.add_word("dog")
        else:
            studio.add_word("sailboat", out=True)
        studio.page.locator(".answer.differs").wait_for()
        studio.answered()
        studio.wait("#audit li.edited")
        bar = "#added-bars .bar" if name == "studio_dark" else "#bars .bar:nth-child(4)"
        studio.page.locator(bar).first.hover()
        if name == "studio_phone":
            studio.page.evaluate("() => scrollTo(0, 560)")
        else:
            studio.page.evaluate("() => scrollTo(0, 0)")
        studio.wait("#card .strip img[src^='blob:']")
        path = folder / f"{name}.png"
        studio.page.screenshot(path=path)
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(256).save(path, optimize=True)
        assert path.stat().st_size < 250_000
        studio.check()
