"""The report as one HTML page: no scripts, styles or images from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from serving.report.charts import histogram, pair_map, ranks
from serving.report.report import Report
from serving.storage.location import Place

HERE = Path(__file__).parent
GENERATOR = "sparseclip report"
"""Stands in the head of every page."""
_HEAD = 1024
"""Bytes that hold it."""


def is_page(place: Place) -> bool:
    """Whether a file is a page of `render`. Raises PlaceError or OSError."""
    return f'name="generator" content="{GENERATOR}"'.encode() in place.read(0, _HEAD)


def data_of(report: Report) -> dict[str, Any]:
    """What the page says, for programs; images are in the page only."""
    examples = {number: dataclasses.asdict(e) for number, e in report.examples.items()}
    return {
        "summary": dataclasses.asdict(report.summary),
        "active": dataclasses.asdict(report.active),
        "concepts": dataclasses.asdict(report.concepts) | {"dead": report.concepts.dead},
        "compared": report.compared,
        "support": report.support,
        "pairs": [dataclasses.asdict(pair) for pair in report.pairs],
        "map": {
            "concepts": report.together.concepts.tolist(),
            "rows": report.together.rows.tolist(),
        },
        "shown": [dataclasses.asdict(shown) for shown in report.shown],
        "examples": {
            number: {name: value for name, value in example.items() if name != "image"}
            for number, example in examples.items()
        },
        "quarantine": [dataclasses.asdict(reason) for reason in report.quarantine],
    }


def render(report: Report) -> str:
    """The page. Names, ids and texts are escaped, and only the page's own script may run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        generator=GENERATOR,
        report=report,
        names=report.names,
        data=data_of(report),
        active=histogram(report.active),
        ranks=ranks(report.concepts, report.summary.rows),
        map=pair_map(report.together, report.names),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=digest,
    )
