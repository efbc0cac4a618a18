"""Losses of a training run: the contract in base.py, one file for each loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from training.losses.base import Loss

LOSSES: Plugins[Loss] = Plugins(
    "loss",
    {
        "clip": Plugin("training.losses.clip:ClipLoss", "train"),
    },
)
