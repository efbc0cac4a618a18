"""The job of an export, and how another one is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from serving.cli.export import export
from serving.export.job import OPTIONS, ExportError, ExportJob, OutputConfig, settings_of

JOB = ExportJob(modality="image", model="demo/1", bundle="0a", runtime="r", entries=8, plan="p")


def test_every_setting_is_named_as_a_user_gives_it() -> None:
    assert set(settings_of(JOB)) == set(OPTIONS)
    options = {word.strip("(,)") for said in OPTIONS.values() for word in said.split()}
    known = {name for parameter in export.params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outputs": OutputConfig(rows=5)}, "--rows was 4096 and is 5"),
        ({"outputs": OutputConfig(sparse=False)}, "--sparse was on and is off"),
        ({"outputs": OutputConfig(patches=(3, 7))}, "--patch was not given and is 3, 7"),
        ({"outputs": OutputConfig(framing="pad")}, "--framing was not given and is pad"),
        ({"outputs": OutputConfig(top=0)}, "--top was 10 and is 0"),
        (
            {"resizer": "pillow 13.0.0"},
            "what resizes images was not given and is pillow 13.0.0",
        ),
        ({"model": "demo/2"}, "the model of --bundle was demo/1 and is demo/2"),
        (
            {"column": "a", "prefix": "b"},
            "--column was not given and is a; --prefix was not given and is b",
        ),
    ],
)
def test_what_differs_from_an_export_is_said(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=f"holds another export: {said}[.] Choose"):
        JOB.refuse_other(dataclasses.replace(JOB, **changed))


def test_an_update_of_the_same_settings_is_not_another_export() -> None:
    JOB.refuse_other(dataclasses.replace(JOB, generation=1, entries=9, plan="q"))
