"""Which links in a folder lead to another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.storage.local_tree import link_to


@pytest.mark.parametrize(
    ("links", "target", "by"),
    [
        ({"in/link": "out"}, "out", "link"),
        ({"in/link": "out"}, "out/codes", "link"),
        ({"in/one/link": "new/codes"}, "new/codes", "one/link"),  # it leads to nothing yet
        ({"in/up": "."}, "codes", "up"),
        ({"in/link": "out", "out/far": "far"}, "far/codes", "link/far"),
        ({"in/link": "out"}, "in/link/codes", "link"),
        ({"alias": "out", "in/link": "out"}, "alias/codes", "link"),
        ({"alias": "out", "in/link": "alias"}, "out/codes", "link"),
        ({"in/link": "out"}, "out 2/codes", None),  # a name that begins like the other
        ({"in/link": "out/deep"}, "out", None),  # OUTPUT is above what is read
        ({"in/loop": "in/loop", "in/a.png": "in/one/b.png", "in/one/again": "in"}, "out", None),
    ],
)
def test_a_link_by_which_a_folder_is_read_is_found(
    links: dict[str, str], target: str, by: str | None, tmp_path: Path
) -> None:
    for name in ("in/one", "out/deep", "out 2", "far"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "in" / "one" / "b.png").write_bytes(b"")
    for link, leads_to in links.items():
        (tmp_path / link).symlink_to(tmp_path / leads_to)
    assert link_to(str(tmp_path / "in"), str(tmp_path / target)) == by
    assert link_to(str(tmp_path / "in" / "one" / "b.png"), str(tmp_path / target)) is None
