"""Files of torch's old format give what torch put into them; nothing in them is ever run."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from training.model.legacy_state_dict import MAGIC, read_state_dict


def saved(state: Any, *, old: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def test_reads_what_torch_saved() -> None:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).state_dict()
    state["transposed"] = torch.randn(4, 6).T  # strides of its own
    state["part"] = torch.randn(10)[2:7]  # an offset into a larger storage
    read = read_state_dict(saved(state))
    assert list(read) == list(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


class Bomb:
    """Unpickled, it would leave a directory behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("place", [0, 3])
def test_runs_nothing(tmp_path: Any, place: int) -> None:
    """A tripwire as the first pickle, or in the place of the tensors."""
    trap = str(tmp_path / "fired")
    values: list[Any] = [MAGIC, 1001, {}, {}, []]
    values[place] = Bomb(trap)
    with pytest.raises(ValueError, match="not a state dict"):
        read_state_dict(b"".join(pickle.dumps(v, protocol=2) for v in values))
    assert not os.path.exists(trap)


def test_refuses_anything_else() -> None:
    whole = saved({"a": torch.randn(100)})
    for data in (b"", b"\x80\x02.", whole[:-8], whole[:60], saved({"a": torch.ones(2)}, old=False)):
        with pytest.raises(ValueError, match="not a state dict"):
            read_state_dict(data)
