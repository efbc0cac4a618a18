"""`sparseclip evaluate MODEL`, and `sparseclip evaluate steering ADAPTER`."""

from __future__ import annotations

import importlib

import click

STEERING = "steering"


def _command(target: str) -> click.Command:
    module, attribute = target.split(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command


class _Evaluate(click.Command):
    """Steering has a command of its own; anything else is a model."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        steered = args[:1] == [STEERING]
        target = (
            "mllm_adapter.evaluate_command:steering"
            if steered
            else "training.evaluate_command:evaluate"
        )
        name = f"{info_name} {STEERING}" if steered else info_name
        command = _command(target)
        return command.make_context(name, args[1:] if steered else args, parent, **extra)


evaluate = _Evaluate("evaluate", help="Measure a model, or after `steering` an adapter.")
