"""How near an engine is to the reference, as cells of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.engine_plans.plan_cache import BuiltGraph, PlanRecord

PARITY_COLUMNS = ("cosine", "jaccard", "top16", "agreement")


def parity_cells(plan: PlanRecord | None) -> tuple[str, ...]:
    """Of images, and of texts behind a stroke."""
    if plan is None or plan.refused:  # the state of a refused one has the figures
        return ("", "", "", "")
    graphs = [plan.graphs[name] for name in ("image", "text") if name in plan.graphs]
    cells = [graph_cells(graph)[:3] for graph in graphs]
    joined = (" / ".join(filter(None, parts)) for parts in zip(*cells, strict=True))
    return (*joined, f"{plan.agreement:.3f}")


def graph_cells(graph: BuiltGraph) -> tuple[str, ...]:
    """Of one graph; the agreement is of a whole plan, so its cell is empty."""
    parity = graph.parity
    numbers = (parity.cosine, parity.jaccard, parity.top16)
    digits = (5, 3, 3)
    return (*("" if x is None else f"{x:.{d}f}" for x, d in zip(numbers, digits, strict=True)), "")
