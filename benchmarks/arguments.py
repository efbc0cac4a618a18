"""Numbers on a benchmark's command line. argparse names the option whose number is refused."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


def at_least(low: int, *, up_to: int = sys.maxsize) -> Callable[[str], int]:
    """The type of an option that is a count."""

    def count(text: str) -> int:
        if not low <= (value := int(text)) <= up_to:
            raise argparse.ArgumentTypeError(f"must be at least {low}{_most(up_to, sys.maxsize)}")
        return value

    return count


def above(low: float, *, up_to: float = sys.float_info.max) -> Callable[[str], float]:
    """The type of an option that is a time, a rate or a share."""

    def number(text: str) -> float:
        if not low < (value := float(text)) <= up_to:
            most = _most(up_to, sys.float_info.max)
            raise argparse.ArgumentTypeError(f"must be above {low:g}{most}")
        return value

    return number


def _most(up_to: float, unbounded: float) -> str:
    return "" if up_to == unbounded else f" and at most {up_to:g}"
