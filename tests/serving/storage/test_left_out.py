"""Counts of what is left out are bounded, however many endings there are."""

from __future__ import annotations

from serving.storage.left_out import LeftOut


def test_endings_are_counted_and_bounded() -> None:
    left_out = LeftOut()
    for name in ("a.txt", "b.TXT", "README", ".hidden", "x.tar.gz", "y.a b"):
        left_out.add_name(name)
    assert left_out == {".txt": 2, "no ending": 3, ".gz": 1}
    assert str(left_out) == "3 no ending, 2 .txt, 1 .gz"
    for number in range(1000):
        left_out.add_name(f"x.e{number}")
    assert len(left_out) == 65
    assert left_out.total() == 1006
