"""A disk that does not take tensors."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bundle.tensor_errors import tensor_writes


def test_a_disk_that_takes_no_tensors_is_an_error_of_the_system(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught, tensor_writes():
            save_file({"x": torch.zeros(1000)}, tmp_path / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
