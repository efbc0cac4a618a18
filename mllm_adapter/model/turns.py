"""Roles of a conversation in the order that a chat template takes.

Templates differ in what they refuse: a system message (Gemma), two messages of one role in a row,
or an answer at the beginning (Gemma and Mistral). Messages are joined then, and no text is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]


class Turn(NamedTuple):
    """One or more messages that a template reads as one."""

    role: Role
    messages: tuple[int, ...]
    """Indices of the messages; none in a turn that is only there for the order."""


def arrangements(roles: Sequence[Role]) -> Iterator[list[Turn]]:
    """Ways to write messages of some roles, from the plainest to the one that all templates take.

    First each message alone; then those of one role in a row as one; then also the system message
    as the beginning of the user's turn.
    """
    alone = [Turn(role, (i,)) for i, role in enumerate(roles)]
    yield alone
    joined = _joined(alone)
    if joined != alone:
        yield joined
    by_user = _joined([t._replace(role="user") if t.role == "system" else t for t in alone])
    if by_user[:1] and by_user[0].role == "assistant":
        by_user.insert(0, Turn("user", ()))
    if by_user != joined:
        yield by_user


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of one role in a row become one."""
    result: list[Turn] = []
    for turn in turns:
        if result and result[-1].role == turn.role:
            result[-1] = Turn(turn.role, result[-1].messages + turn.messages)
        else:
            result.append(turn)
    return result
