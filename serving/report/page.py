"""The report as one HTML page: no scripts, styles or images from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from serving.report.charts import histogram, pair_map, ranks
from serving.report.dense_report import DenseReport
from serving.report.dense_statistics import NEAR_DUPLICATE
from serving.report.report import ExportReport
from serving.report.spread_chart import spread_chart
from serving.storage.location import Location

FOLDER = Path(__file__).parent
GENERATOR = "sparseclip report"
"""A tag in the head of every page names this."""
HEAD_BYTES = 1024
"""The start of a page, which holds that tag."""


def is_page(file: Location) -> bool:
    """Whether a file is a page of `render`. Raises LocationError or OSError."""
    return f'name="generator" content="{GENERATOR}"'.encode() in file.read(0, HEAD_BYTES)


def data_of(report: ExportReport | DenseReport) -> dict[str, Any]:
    """The page's numbers and names as JSON, for programs. The images are in the page only."""
    examples = {
        number: {
            name: value for name, value in dataclasses.asdict(example).items() if name != "image"
        }
        for number, example in report.examples.items()
    }
    if isinstance(report, DenseReport):
        return dataclasses.asdict(report) | {"examples": examples}
    return {
        "summary": dataclasses.asdict(report.summary),
        "active": dataclasses.asdict(report.active),
        "concepts": dataclasses.asdict(report.concepts) | {"dead": report.concepts.dead},
        "compared": report.compared,
        "support": report.support,
        "pairs": [dataclasses.asdict(pair) for pair in report.pairs],
        "map": {
            "concepts": report.cooccurrence.concepts.tolist(),
            "rows": report.cooccurrence.rows.tolist(),
        },
        "shown": [dataclasses.asdict(concept) for concept in report.shown],
        "examples": examples,
        "quarantine": [dataclasses.asdict(reason) for reason in report.quarantine],
    }


def render(report: ExportReport | DenseReport) -> str:
    """The page as HTML. Names, ids and texts are escaped; only the page's own script may run."""
    if isinstance(report, DenseReport):
        charts = {
            name: spread_chart(spread, label)
            for name, spread, label in (
                ("norms", report.norms, "norm"),
                ("tokens", report.tokens, "tokens"),
                ("nearest", report.nearest, "cosine"),
            )
            if spread is not None
        }
        return _render("dense_page.html.j2", report, "", near_duplicate=NEAR_DUPLICATE, **charts)
    return _render(
        "page.html.j2",
        report,
        (FOLDER / "page.js").read_text(encoding="utf-8"),
        names=report.names,
        active=histogram(report.active),
        ranks=ranks(report.concepts, report.summary.rows),
        map=pair_map(report.cooccurrence, report.names),
    )


def _render(template: str, report: ExportReport | DenseReport, script: str, **parts: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        generator=GENERATOR,
        report=report,
        data=data_of(report),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=digest,
        **parts,
    )
