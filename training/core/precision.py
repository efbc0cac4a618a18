"""The precision of a run: bf16 where the device has instructions for it, else fp32.

Without bf16 instructions a CPU computes bf16 element by element. That is up to 60 times slower than
fp32, and slowest in the backward pass of autocast.
"""

from __future__ import annotations

import logging
import platform
from typing import Literal

import torch

from training.core.distributed import Ranks

Precision = Literal["auto", "bf16", "fp32"]

_log = logging.getLogger(__name__)


def resolve_precision(
    requested: Precision, ranks: Ranks, begun: Precision | None = None
) -> Precision:
    """Turns a requested precision into bf16 or fp32, the same on all ranks, and logs the choice.

    `auto` becomes the precision with which the run was begun, if there is one; else bf16 when the
    device of every rank computes it. Any other request is granted, with a warning for bf16 on a
    device that does not compute it.
    """
    if requested == "auto" and begun is not None:
        requested = begun
    incapable = torch.tensor(int(not computes_bf16(ranks.device)), device=ranks.device)
    everywhere = not ranks.total(incapable).item()
    precision = requested if requested != "auto" else "bf16" if everywhere else "fp32"
    if not ranks.is_first:
        return precision
    where = f"this {'GPU' if ranks.device.type == 'cuda' else 'CPU'}"
    if precision == "bf16" and not everywhere:
        _log.warning("precision: bf16, which %s does not compute: fp32 is far faster here", where)
    elif requested == "auto":
        does = "computes" if everywhere else "does not compute"
        _log.info("precision: %s, as %s %s bf16", precision, where, does)
    else:
        _log.info("precision: %s", precision)
    return precision


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has bf16 instructions that torch uses.

    On a CPU the variables ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 turn them off.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On x86 that only means AVX-512, without whose bf16 extension bf16 is no faster than fp32.
    x86 = platform.machine() in ("x86_64", "AMD64")
    return not x86 or bool(torch.cpu._is_avx512_bf16_supported())


def gather_dtype(precision: Precision) -> torch.dtype | None:
    """The type in which features travel between ranks; None leaves them as they are."""
    return torch.bfloat16 if precision == "bf16" else None


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context for a forward pass in a resolved precision. Weights stay in fp32.

    Raises ValueError for `auto`.
    """
    if precision == "auto":
        raise ValueError("precision: auto must be resolved first")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
