"""Headers of a tar file that have no end."""

from __future__ import annotations

import io
import tarfile
import time

import pytest

from serving.export.inputs._tar_members import tar_members


@pytest.mark.kind("K4")
def test_a_chain_of_pax_headers_costs_itself() -> None:
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, 14
    chain = (pax.tobuf(tarfile.GNU_FORMAT) + b"14 path=b.png\n".ljust(512, b"\0")) * 500
    member = tarfile.TarInfo("a.png").tobuf()
    data = member + chain + member + bytes(1024)
    began = time.monotonic()
    first, damage, last = tar_members(io.BytesIO(data), len(data))
    assert time.monotonic() - began < 3  # tarfile would call itself for each header of each chain
    assert (first.name, last.name) == ("a.png", "b.png")
    assert damage.problem.startswith("no tar header: ")
