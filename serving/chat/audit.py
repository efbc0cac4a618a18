"""What an image shows before and after its edits.

P patches, C concepts, E edits, Kp slots per patch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.chat.chat_request import ConceptChange, ImageAudit
from serving.chat.resolve_edits import ResolvedEdits
from serving.core.coverage import NO_COVERAGE, ItemCoverage

STRONGEST = 10
"""How many concepts are named before and after the edits."""
MAX_EDITED = 64
"""How many edited concepts are named in an event."""


def audit(
    codes: Any, resolved: ResolvedEdits, concepts: int, coverage: ItemCoverage = NO_COVERAGE
) -> ImageAudit:
    """Means over the patches of one image's PatchCodes (1, P, Kp), before and after its edits.

    The values after come from the function that edits what the language model sees.
    """
    from mllm_adapter.steering.plan import SteeringBatch, edited_activations

    plan = resolved.plan
    ids = np.array([edit.concept for edit in plan.edits], dtype=np.int64)
    patches = codes.indices.shape[1]
    batch = SteeringBatch.from_plans([plan], patches)
    weights = codes.values.numpy().ravel() / patches
    # The mean over the patches, (C,): a sum by concept id with weight 1/P. Unused slots add 0.
    means = np.bincount(codes.indices.numpy().ravel(), weights=weights, minlength=concepts)
    before = means.astype(np.float64)
    after = before.copy()
    if len(batch.row):  # a plan that changes nothing has no rows
        # (E, P): each edited concept on each patch. `before` is computed
        # anew in the same way, so that an edit without effect shows no difference by rounding.
        old = codes.activations(batch.row, batch.concept)
        before[ids] = old.double().mean(-1).numpy()
        after[ids] = edited_activations(old, batch).double().mean(-1).numpy()
    order = ids[np.argsort(-np.abs(after[ids] - before[ids]), kind="stable")]
    return ImageAudit(
        before=_strongest(before),
        after=_strongest(after),
        edited=tuple(
            ConceptChange(
                concept_id=concept,
                before=float(before[concept]),
                after=float(after[concept]),
                edits=resolved.sources[concept],
            )
            for concept in order[:MAX_EDITED].tolist()
        ),
        edited_total=len(ids),
        coverage=coverage,
    )


def _strongest(means: NDArray[np.float64]) -> tuple[tuple[int, float], ...]:
    top = np.argsort(-means, kind="stable")[:STRONGEST]
    return tuple((i, float(means[i])) for i in top.tolist() if means[i] > 0)
