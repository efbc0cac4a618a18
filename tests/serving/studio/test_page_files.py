"""The page's files hold to the rules by which it is safe."""

from __future__ import annotations

import re

from serving.studio.page_files import read_page


def test_the_page_makes_no_markup_of_texts_and_names_no_other_server() -> None:
    for path, file in read_page().items():
        if not path.endswith((".js", ".html", ".css")):
            continue
        text = file.content.decode()
        for bad in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert bad not in text, (path, bad)
        assert not re.search(r"https?://|//cdn|@import", text), path
        assert len(text.splitlines()) <= 300, path
        if path.endswith(".html"):
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>", text)
