"""What a visitor of the studio does, in a real browser and with the shipped model."""

from __future__ import annotations

import statistics

import pytest

from tests.serving.studio.browser import StudioPage
from tests.support.paths import ROOT

pytestmark = pytest.mark.browser
CAT = ROOT / "docs" / "images" / "cat.png"

DROP = """
async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}
"""
PIXELS = """
() => {
  const canvas = document.getElementById("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let hash = 0;
  for (const value of data) hash = (hash * 31 + value) | 0;
  return hash;
}
"""


def drop(studio: StudioPage, name: str, data: bytes) -> None:
    import base64

    studio.page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def test_a_dropped_picture_shows_its_concepts_and_their_maps(studio_page: StudioPage) -> None:
    first = studio_page.names()
    assert len(first) == 16
    drop(studio_page, "mine.png", CAT.read_bytes())
    studio_page.page.get_by_text("strongest on mine.png").wait_for()
    names = studio_page.names()
    assert names != first
    assert any("cat" in name for name in names[:3])
    values = [float(v) for v in studio_page.page.locator("#bars .value").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    strongest = studio_page.page.evaluate(PIXELS)
    studio_page.page.locator("#bars .bar").nth(5).hover()
    studio_page.page.get_by_text(names[5], exact=True).and_(
        studio_page.page.locator("#map-name")
    ).wait_for()
    assert studio_page.page.evaluate(PIXELS) != strongest


def test_a_file_that_is_no_picture_is_refused_in_one_sentence(studio_page: StudioPage) -> None:
    drop(studio_page, "mine.png", b"no picture")
    studio_page.wait("#error:not([hidden])")
    said = studio_page.page.inner_text("#error-text")
    assert said.startswith("The server refused: ")
    assert said.count(". ") == 0
    drop(studio_page, "empty.png", b"")
    studio_page.page.get_by_text("The file is empty.").wait_for()


def test_a_chosen_concept_has_its_evidence(studio_page: StudioPage) -> None:
    name = studio_page.names()[0]
    studio_page.page.locator("#bars .name").first.click()
    studio_page.page.locator("#card-name", has_text=name).wait_for()
    studio_page.wait("#card .words li")
    studio_page.wait("#card .strip img[src^='blob:']")
    pictures = studio_page.page.locator("#card .strip button").count()
    assert 1 <= pictures <= 6


def test_a_moved_slider_redraws_without_the_model(studio_page: StudioPage) -> None:
    before = float(studio_page.page.locator("#bars .value").first.inner_text())
    studio_page.page.uncheck("#follow")
    studio_page.page.locator("#bars .slider").first.focus()
    studio_page.page.evaluate("() => { sparseclipStudio.redraws.length = 0; }")
    asked, pixels = len(studio_page.requests), studio_page.page.evaluate(PIXELS)
    for step in range(50):
        studio_page.slide(0, round(1 - 0.02 * (step + 1), 2))
        studio_page.page.evaluate("() => new Promise(requestAnimationFrame)")
    redraws = studio_page.page.evaluate("() => sparseclipStudio.redraws.map(({total}) => total)")
    assert len(redraws) >= 50
    median, late = statistics.median(redraws), statistics.quantiles(redraws, n=20)[-1]
    print(f"redraw: median {median:.1f} ms, 95th percentile {late:.1f} ms of {len(redraws)}")
    assert float(studio_page.page.locator("#bars .value").first.inner_text()) == 0
    assert before > 0
    assert studio_page.page.evaluate(PIXELS) != pixels
    assert studio_page.requests[asked:] == []


def test_two_answers_stream_and_the_edit_changes_one(studio_page: StudioPage) -> None:
    plain, steered = studio_page.answered()
    assert plain == steered != ""
    studio_page.add_word("dog")
    studio_page.page.locator(".answer.differs").wait_for()
    again, steered = studio_page.answered()
    assert again == plain
    assert "dog" in steered
    assert "first\u00a0token" in studio_page.page.inner_text(".answer.steered .answer-facts")
    studio_page.wait("#audit .joined li")
    studio_page.page.check("#blind")
    studio_page.wait(".answer.blind .answer-text:not(:empty)")


def test_what_is_drawn_is_what_the_language_model_read(studio_page: StudioPage) -> None:
    studio_page.answered()
    studio_page.add_word("red car")
    studio_page.slide(1, 0.4)
    studio_page.page.locator("#bars .knock").nth(2).click()
    studio_page.page.locator("#strength").fill("0.75")
    script = """
    async () => {
      const { on, preview } = await import("/studio/js/state.js");
      const heard = new Promise((resolve) => on("audit", resolve));
      document.getElementById("ask").click();
      const [image] = (await heard).start.images;
      const drawn = preview();
      return image.edited.map(({ concept_id: id, before, after }) =>
        [before, drawn.get(id).before, after, drawn.get(id).after]);
    }
    """
    edited = studio_page.page.evaluate(script)
    assert len(edited) > 3
    for before, drawn_before, after, drawn_after in edited:
        assert drawn_before == pytest.approx(before, abs=1e-5)
        assert drawn_after == pytest.approx(after, abs=1e-5)


def test_an_answer_can_be_stopped(studio_page: StudioPage) -> None:
    studio_page.answered()
    studio_page.page.evaluate(
        """() => {
          const sent = fetch;
          globalThis.fetch = (path, options) => path.includes("chat")
            ? new Promise((_, reject) => options.signal.addEventListener("abort",
                () => reject(new DOMException("stopped", "AbortError"))))
            : sent(path, options);
        }"""
    )
    studio_page.page.click("#ask")
    studio_page.page.click("#stop")
    studio_page.page.get_by_text("stopped").first.wait_for()
    studio_page.wait("#stop:disabled")


def test_an_unknown_word_says_so(studio_page: StudioPage) -> None:
    studio_page.page.fill("#word", "blorfnik")
    note = studio_page.page.locator("#word-note")
    note.get_by_text("blorfnik").wait_for()
    said = note.inner_text()
    assert "does not know" in said or "No concept answers" in said


def test_the_same_word_twice_is_refused_before_the_server_is_asked(
    studio_page: StudioPage,
) -> None:
    studio_page.add_word("dog")
    studio_page.page.fill("#word", " Dog ")
    studio_page.page.press("#word", "Enter")
    studio_page.page.locator("#error-text", has_text="edited already").wait_for()
    assert studio_page.page.locator("#edits .edit").count() == 1


def test_a_painted_region_bounds_the_edits(studio_page: StudioPage) -> None:
    studio_page.add_word("dog")
    studio_page.page.click("#paint")
    box = studio_page.page.locator("#patches").bounding_box()
    side = box["width"] / 7
    studio_page.page.mouse.move(box["x"] + side / 2, box["y"] + side / 2)
    studio_page.page.mouse.down()
    studio_page.page.mouse.move(box["x"] + 2.5 * side, box["y"] + side / 2, steps=6)
    studio_page.page.mouse.up()
    assert studio_page.state("[...state.region].sort()") == [0, 1, 2]
    assert "3 patches" in studio_page.page.inner_text("#edits .place")
    code = studio_page.page.locator("#code")
    studio_page.page.get_by_role("tab", name="JSON").click()
    code.get_by_text('"patches"').wait_for()
    studio_page.page.click("#edits .place")  # these patches stay its own
    studio_page.page.click("#clear-region")
    assert "3 patches, kept" in studio_page.page.inner_text("#edits .place")


def test_the_gallery_is_searched_and_compared(studio_page: StudioPage) -> None:
    studio_page.page.fill("#search-word", "cat")
    studio_page.page.press("#search-word", "Enter")
    studio_page.wait("#hits .reasons li")
    assert "cat" in studio_page.page.locator("#hits .hit-name").first.inner_text()
    studio_page.page.click("#search-picture")
    studio_page.wait("#terms li:nth-child(8)")
    studio_page.page.select_option("#compare-with", "sailboat.png")
    studio_page.wait("#compare tbody tr")
    assert "boat" in studio_page.page.locator("#compare tbody th").first.inner_text()


def test_an_edit_is_tried_on_other_pictures(studio_page: StudioPage) -> None:
    studio_page.add_word("dog")
    studio_page.page.click("#others-run")
    studio_page.wait("#others li:nth-child(4)")
    studio_page.wait("#others-stop:disabled")
    texts = studio_page.page.locator("#others .steered").all_inner_texts()
    assert len(texts) == 4
    assert sum("dog" in text for text in texts) >= 3
