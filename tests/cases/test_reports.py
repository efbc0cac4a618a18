"""A report shows an image or a text only if it is the one that was exported."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as dataset
import pytest

from serving.export.inputs import INPUTS
from serving.report.examples import thumbnail
from tests.cases.living_collections import BEFORE, COLLECTIONS
from tests.serving.export.command import options, run
from tests.serving.export.image_folders import png
from tests.serving.report.conftest import call
from tests.serving.report.page import Page

pytestmark = pytest.mark.kind("K2")


@pytest.mark.parametrize("kind", INPUTS.names)
def test_images_that_are_not_those_of_the_export_are_not_shown(
    kind: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Of a tar file or a table that has changed, all of them."""
    write, output, page = COLLECTIONS[kind], tmp_path / "out", tmp_path / "report.html"
    source, *columns = write(tmp_path / "in", BEFORE)
    run(source, output, *columns, *options(tiny_bundle))
    arguments = [output, "-o", page, "--input"]

    assert "not shown" not in call(*arguments, source)
    images = Page(page).images
    names = {id: id.rpartition("/")[2].removesuffix(".png") for id in images}
    assert len(images) > 10
    assert images == {id: thumbnail(BEFORE[name]) for id, name in names.items()}

    (tmp_path / "other").mkdir()
    replaced = {name: png(200 + number) for number, name in enumerate(BEFORE)}
    other, *_ = write(tmp_path / "other" / "in", replaced)
    printed = call(*arguments, other, code=1)
    assert printed == (
        f"Error: --input: not what the export was made from: {len(images)} of {len(images)} "
        f"examples are not shown (changed since it was listed: {len(images)}). "
        "A copy must have the times of change of its original\n"
    )

    rows = dataset.dataset(output / "data").to_table(columns=["id", "source"]).to_pylist()
    files = {row["id"]: row["source"].partition(":")[0] for row in rows}
    [changed] = [file for id, file in files.items() if "12" in (id, names.get(id))]
    expected = {id: image for id, image in images.items() if files[id] != changed}
    write(tmp_path / "in", {**BEFORE, "12": png(112)})
    if not expected:
        assert "not what the export was made from" in call(*arguments, source, code=1)
        return
    lost = len(images) - len(expected)
    told = f"{lost} of {len(images)} examples are not shown (changed since it was listed: {lost})"
    assert f"; {told}\n" in call(*arguments, source)
    assert Page(page).images == expected
    assert f"{told}." in Page(page).text
