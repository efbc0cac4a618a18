"""The report of sparsify on one page: every head beside the dense teacher."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

COLUMNS = (
    "model",
    "top-1 %",
    "top-5 %",
    "text to image @1 %",
    "@5 %",
    "of the teacher's top-1 %",
    "L0 image",
    "L0 text",
    "active %",
    "dead %",
    "clarity",
    "random",
    "untrained",
)
NAME_COLUMNS = (
    "head",
    "mean confidence %",
    "untrained",
    "names of 50% or more, % of concepts",
    "untrained",
    "names shown, % of concepts",
)
COST_COLUMNS = ("head", "concepts", "seconds of training", "peak memory, MiB", "logit scale")

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}"
    "svg{max-width:100%;height:auto}"
)

_NOTES = (
    "The dense row is the teacher; its towers are frozen in all others. `untrained` rows are the "
    "same head with random weights, held to the same L0: what a figure of interpretability shows "
    "that they show as well was not learned. Rows of a reconstruction are no sparse codes: they "
    "are the dense vectors that the codes give back. Ties count as guessing among them would. "
    "Clarity is read beside its two controls alone: the same activations on random images, and an "
    "untrained head. The confidence of a name is the share of names of its score that held-back "
    "images bear out. Compare its mean with the untrained head's; how many names have 50% or more "
    "changes much from one seed to another."
)


def report_page(report: Mapping[str, Any]) -> str:
    """The report as HTML, with its plots inside."""
    chosen = {name: value for name, value in report["options"].items() if value is not None}
    options = ", ".join(f"{name} {value}" for name, value in chosen.items())
    body = [
        f"<h1>{escape(report['teacher'])} made sparse</h1>",
        f"<p>Data: {escape(report['data'])}. Machine: {escape(report['machine'])}. "
        f"{escape(options)}.</p>",
        f"<p>{escape(_NOTES)}</p>",
    ]
    for split, dense in report["dense"].items():
        body.append(f"<h2>{escape(split)}: {dense['images']:,} images, {dense['labels']:,} labels")
        body.append("</h2>")
        body.append(_table(COLUMNS, _rows(report, split)))
    if report["dense"]:
        body.append(_plot(report))
    else:
        body.append("<p>No images were held out, so nothing was measured.</p>")
    body.append("<h2>Names</h2>")
    body.append(_table(NAME_COLUMNS, (_names(n, f) for n, f in report["heads"].items())))
    body.append("<h2>Cost</h2>")
    body.append(_table(COST_COLUMNS, (_cost(n, f) for n, f in report["heads"].items())))
    title = f"{report['teacher']} made sparse"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(body)}</html>\n"
    )


def _rows(report: Mapping[str, Any], split: str) -> Iterable[Sequence[str]]:
    dense = report["dense"][split]
    yield ["dense", *_accuracy(dense, dense), *[""] * 7]
    for name, head in report["heads"].items():
        figures = head["splits"][split]
        untrained = figures["untrained"]
        yield [name, *_accuracy(figures, dense), *_codes(figures, untrained)]
        if "reconstructed" in figures:
            again = figures["reconstructed"]
            yield [f"{name}, reconstruction", *_accuracy(again, dense), *[""] * 7]
        yield [f"{name}, untrained", *_accuracy(untrained, dense), *_codes(untrained, None)]


def _accuracy(figures: Mapping[str, Any], dense: Mapping[str, Any]) -> list[str]:
    top1, teacher = figures["top1"]["percent"], dense["top1"]["percent"]
    return [
        f"{top1:.1f} ± {figures['top1']['error']:.1f}",
        *(f"{figures[k]['percent']:.1f}" for k in ("top5", "text_to_image_1", "text_to_image_5")),
        f"{100 * top1 / teacher:.0f}" if teacher else "",
    ]


def _codes(figures: Mapping[str, Any], untrained: Mapping[str, Any] | None) -> list[str]:
    image, clarity = figures["image_sparsity"], figures["clarity"]
    control = untrained["clarity"] if untrained else None
    return [
        f"{image['l0']:.0f} ({image['l0_share']:.1f}%)",
        f"{figures['text_sparsity']['l0']:.0f}",
        f"{image['active']:.0f}",
        f"{image['dead']:.0f}",
        f"{clarity['clarity']:.3f}" if clarity else "",
        f"{clarity['clarity_random']:.3f}" if clarity else "",
        f"{control['clarity']:.3f}" if control else "",
    ]


def _names(name: str, figures: Mapping[str, Any]) -> Sequence[str]:
    names, control = figures["names"], figures["names_untrained"]
    means = (names["mean_confidence"], control["mean_confidence"])
    counts = (names["trusted"], control["trusted"], names["named"])
    return [
        name,
        *("" if mean is None else f"{100 * mean:.1f}" for mean in means),
        *(f"{100 * count / names['concepts']:.1f}" for count in counts),
    ]


def _cost(name: str, figures: Mapping[str, Any]) -> Sequence[str]:
    return [
        name,
        f"{figures['names']['concepts']:,}",
        f"{figures['seconds']:.0f}",
        f"{figures['peak_mib']:,}",
        f"{figures['logit_scale']:.1f}",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _plot(report: Mapping[str, Any]) -> str:
    """Top-1 of each head in code space by split, with the teacher's as a line across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    splits, heads = list(report["dense"]), list(report["heads"])
    figure, all_axes = pyplot.subplots(
        1, len(splits), figsize=(3.2 * len(splits), 3.4), layout="constrained", squeeze=False
    )
    for axes, split in zip(all_axes[0], splits, strict=True):
        figures = [report["heads"][name]["splits"][split] for name in heads]
        axes.bar(heads, [f["top1"]["percent"] for f in figures], color="#4878a8")
        untrained = [f["untrained"]["top1"]["percent"] for f in figures]
        axes.plot(heads, untrained, "_", color="black", markersize=18, label="untrained")
        teacher = report["dense"][split]["top1"]["percent"]
        axes.axhline(teacher, color="grey", linestyle="--", label="dense")
        axes.set(title=split, ylabel="top-1, %", ylim=(0, None))
        axes.tick_params(axis="x", rotation=60)
    all_axes[0][0].legend(fontsize="small")
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return stream.getvalue()[stream.getvalue().index("<svg") :]
