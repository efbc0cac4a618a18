"""What safetensors says of a disk, as the operating system says it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_NUMBER = re.compile(r"\(os error (\d+)\)")


@contextmanager
def tensor_writes() -> Iterator[None]:
    """Around a call that writes tensors. Raises OSError where the disk does not take them, as every
    other write does; safetensors raises an error of its own."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        found = _NUMBER.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from None
