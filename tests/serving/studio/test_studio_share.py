"""Links and downloads hold the plan and the question, and never a visitor's own picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from serving.studio.gallery_pictures import OWN_GALLERY
from sparseclip import Steering
from tests.serving.studio.browser import StudioPage, tab
from tests.serving.studio.test_studio_page import CAT, drop
from tests.serving.support.server_process import environment

pytestmark = pytest.mark.browser


def shared(address: str) -> Any:
    return json.loads(unquote(address.partition("#plan=")[2]))


def test_a_link_brings_back_the_plan_the_question_and_a_gallery_picture(
    studio_page: StudioPage, browser: Any
) -> None:
    studio_page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio_page.page.click("#examples [data-picture='sailboat.png']")
    studio_page.page.get_by_text("strongest on sailboat.png").wait_for()
    studio_page.add_word("dog")
    studio_page.slide(0, 0.25)
    studio_page.page.fill("#question", "Is this a dog?")
    studio_page.page.click("#share")
    studio_page.page.get_by_text("Link copied").wait_for()
    link = studio_page.page.evaluate("() => navigator.clipboard.readText()")
    assert link == studio_page.page.url
    assert len(link) < 2000
    plan = shared(link)["steering"]
    with tab(browser, studio_page.address) as other:
        other.open(f"#{link.partition('#')[2]}")
        assert other.page.input_value("#question") == "Is this a dog?"
        other.page.get_by_text("strongest on sailboat.png").wait_for()
        assert float(other.page.locator("#bars .slider").first.input_value()) == 0.25
        other.page.click("#share")
        other.page.wait_for_url("**#plan=*")
        assert shared(other.page.url)["steering"] == plan
        other.answered()
        other.check()


def test_a_visitors_own_picture_is_in_no_link(studio_page: StudioPage) -> None:
    drop(studio_page, "private-name.png", CAT.read_bytes())
    studio_page.page.get_by_text("strongest on private-name.png").wait_for()
    studio_page.slide(0, 0)
    studio_page.page.click("#share")
    studio_page.page.wait_for_url("**#plan=*")
    assert set(shared(studio_page.page.url)) == {"question", "steering"}
    assert "private" not in studio_page.page.url


@pytest.mark.parametrize(
    "held",
    [
        "{",
        "[]",
        '{"steering": {"edits": [{"op": "explode"}]}}',
        '{"steering": {"edits": [{"op": "set", "concept_id": 1, "value": -3}]}}',
        '{"steering": {"edits": [{"op": "set", "concept_id": 1.5, "value": 1}]}}',
        '{"steering": {"edits": [], "strength": 7}}',
        '{"steering": {"edits": [{"op": "ablate", "phrase": "a", "patches": ["x"]}]}}',
    ],
)
def test_a_bad_link_is_one_sentence_and_the_page_works(
    studio_address: str, browser: Any, held: str
) -> None:
    with tab(browser, studio_address) as studio:
        studio.open(f"#plan={quote(held)}")
        assert studio.page.inner_text("#error-text").startswith("The link")
        assert len(studio.names()) == 16
        assert studio.page.locator("#edits .edit").count() == 0
        studio.check()


def test_the_downloads_run(studio_page: StudioPage, tmp_path: Path) -> None:
    studio_page.page.click("#examples [data-picture='cat.png']")
    studio_page.page.get_by_text("strongest on cat.png").wait_for()
    studio_page.page.fill("#question", "What's this?")
    studio_page.add_word("dog")
    studio_page.page.click("#ask")
    _, steered = studio_page.answered()
    (tmp_path / "cat.png").write_bytes((OWN_GALLERY / "cat.png").read_bytes())
    files = {}
    for name in ("curl", "Python", "JSON"):
        studio_page.page.get_by_role("tab", name=name).click()
        with studio_page.page.expect_download() as download:
            studio_page.page.click("#download")
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    plan = json.loads(files["JSON"].read_text())
    assert Steering.from_json(json.dumps(_upper(plan["steering"]))).edits[0].phrase == "dog"
    said = [
        subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        for command in (["sh", str(files["curl"])], [sys.executable, str(files["Python"])])
    ]
    assert [done.stderr for done in said] == ["", ""]
    assert json.loads(said[0].stdout)["choices"][0]["message"]["content"] == steered
    assert said[1].stdout == steered


def _upper(plan: Any) -> Any:
    edits = [{**edit, "op": edit["op"].upper()} for edit in plan["edits"]]
    return {**plan, "edits": edits}
