"""The parameters of a call: what a caller chooses beside its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bundle.manifest import Framing
from serving.core.errors import ServingError, invalid
from serving.core.limits import LimitsConfig
from serving.core.priority_queue import WorkPriority
from serving.rpc.open_inference import open_inference_pb2 as pb

TOP_CONCEPTS = 10
"""How many names of concepts are sent where the caller does not say. Tools that measure a server
ask for every output, and know no parameter of ours."""

_OURS = ("top_concepts", "framing", "refuse_long_texts")
_TRITONS = ("priority", "timeout")
_WITHOUT_EFFECT = ("binary_data_output", "triton_enable_empty_final_response")
"""What clients send by themselves. Values are always raw, and every reply is the final one."""

_FRAMINGS: dict[str, Framing] = {"crop": "crop", "pad": "pad"}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")
"""A name that may stand in an error."""

Parameters = Mapping[str, pb.InferParameter]


@dataclass(frozen=True, kw_only=True)
class InferParameters:
    """The validated parameters of a call."""

    top_concepts: int
    framing: Framing | None
    refuse_long_texts: bool
    priority: WorkPriority | None
    timeout_s: float | None

    @classmethod
    def read(cls, given: Parameters, limits: LimitsConfig) -> InferParameters:
        """Raises ServingError naming a parameter that is not known, or that has another type."""
        refuse_unknown(given, {*_OURS, *_TRITONS, *_WITHOUT_EFFECT}, "parameters")
        top = _number(given, "top_concepts", TOP_CONCEPTS)
        if not 1 <= top <= limits.top_concepts:
            raise _wrong("top_concepts", f"must be from 1 to {limits.top_concepts}")
        framing = _text(given, "framing")
        if framing is not None and framing not in _FRAMINGS:
            raise _wrong("framing", f"must be one of {', '.join(_FRAMINGS)}")
        timeout_us = _number(given, "timeout", 0)
        if timeout_us < 0:
            raise _wrong("timeout", "must be 0 microseconds or more")
        return cls(
            top_concepts=top,
            framing=None if framing is None else _FRAMINGS[framing],
            refuse_long_texts=_flag(given, "refuse_long_texts"),
            priority=_priority(_number(given, "priority", 0)),
            timeout_s=timeout_us / 1e6 or None,
        )


def refuse_unknown(given: Parameters, known: Collection[str], at: str) -> None:
    """Raises ServingError for a parameter that is not known: it would be lost without a word."""
    for name in given:
        if name not in known:
            where = f"{at}.{name}" if _PLAIN_NAME.fullmatch(name) else at
            also = f"; known are {', '.join((*_OURS, *_TRITONS))}" if at == "parameters" else ""
            raise invalid(where, f"is not known{also}")


def number(value: pb.InferParameter, at: str) -> int:
    """A whole number. Raises ServingError naming the parameter."""
    match value.WhichOneof("parameter_choice"):
        case "int64_param":
            return value.int64_param
        case "uint64_param":
            return value.uint64_param
    raise invalid(at, "must be a whole number")


def _number(given: Parameters, name: str, default: int) -> int:
    return number(given[name], f"parameters.{name}") if name in given else default


def _text(given: Parameters, name: str) -> str | None:
    if name not in given:
        return None
    if given[name].WhichOneof("parameter_choice") != "string_param":
        raise _wrong(name, "must be a string")
    return given[name].string_param


def _flag(given: Parameters, name: str) -> bool:
    if name not in given:
        return False
    if given[name].WhichOneof("parameter_choice") != "bool_param":
        raise _wrong(name, "must be true or false")
    return given[name].bool_param


def _priority(number: int) -> WorkPriority | None:
    """Triton's 1 comes first, and higher numbers come later; 0 leaves it to the server."""
    if number < 0:
        raise _wrong("priority", "must be 0 or more")
    if number == 0:
        return None
    return "interactive" if number == 1 else "bulk"


def _wrong(name: str, problem: str) -> ServingError:
    return invalid(f"parameters.{name}", problem)
