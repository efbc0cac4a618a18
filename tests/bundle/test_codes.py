"""The CSR contract of sparse codes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from bundle.codes import CodesError, SparseCodes

VALUES = st.one_of(st.just(0.0), st.floats(2**-20, 2**20, width=32))


@st.composite
def dense_rows(draw: st.DrawFn) -> NDArray[np.float32]:
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 12)))
    rows: NDArray[np.float32] = draw(hnp.arrays(np.float32, shape, elements=VALUES))
    return rows


@given(dense_rows())
def test_dense_rows_survive(rows: NDArray[np.float32]) -> None:
    codes = SparseCodes.from_dense(rows)
    codes.validate()
    assert len(codes) == len(rows)
    assert np.array_equal(codes.to_dense(), rows)
    for b, row in enumerate(rows):
        indices, values = codes.row(b)
        assert np.array_equal(indices, np.flatnonzero(row))
        assert np.array_equal(values, row[row > 0])


@given(dense_rows(), st.randoms(use_true_random=False))
def test_the_order_of_a_topk_does_not_matter(rows: NDArray[np.float32], dice: object) -> None:
    width = rows.shape[1]
    order = np.array([dice.sample(range(width), width) for _ in rows], dtype=np.int64)  # type: ignore[attr-defined]
    order = order.reshape(rows.shape)
    codes = SparseCodes.from_topk(order, np.take_along_axis(rows, order, axis=1), concepts=width)
    codes.validate()
    assert np.array_equal(codes.to_dense(), rows)


def test_unused_slots_may_hold_any_id() -> None:
    codes = SparseCodes.from_topk(
        np.array([[3, 99, -1]]), np.array([[0.5, 0.0, 0.0]], dtype=np.float32), concepts=4
    )
    assert np.array_equal(codes.to_dense(), [[0, 0, 0, 0.5]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_engine_values_that_are_no_activation(bad: float) -> None:
    with pytest.raises(CodesError, match="^values: negative or not finite"):
        SparseCodes.from_topk(np.array([[0, 1]]), np.array([[1.0, bad]]), concepts=4)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_engine_ids_outside(bad: int) -> None:
    with pytest.raises(CodesError, match=r"outside of 0\.\.3"):
        SparseCodes.from_topk(np.array([[0, bad]]), np.array([[1.0, 1.0]]), concepts=4)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((3,), (3,))])
def test_engine_shapes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(CodesError, match="must be"):
        SparseCodes.from_topk(np.zeros(shapes[0], int), np.zeros(shapes[1]), concepts=4)


GOOD = SparseCodes(
    indices=np.array([1, 3, 0], dtype=np.uint32),
    values=np.array([1, 2, 3], dtype=np.float32),
    offsets=np.array([0, 2, 2, 3], dtype=np.uint32),
    concepts=4,
)


def test_a_good_one_with_an_empty_row() -> None:
    GOOD.validate()
    assert len(GOOD.row(1)[0]) == 0
    assert np.array_equal(GOOD.to_dense(), [[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("indices", [3, 1, 0], "indices: must strictly increase"),
        ("indices", [1, 1, 0], "indices: must strictly increase"),
        ("indices", [1, 4, 0], "indices: an id outside"),
        ("indices", [1, 2**32 - 1, 0], "indices: an id outside"),
        ("indices", [1, 3], "indices, values"),
        ("values", [1, 2], "indices, values"),
        ("values", [1, 0, 3], "values: must be finite"),
        ("values", [1, -2, 3], "values: must be finite"),
        ("values", [1, np.nan, 3], "values: must be finite"),
        ("values", [1, np.inf, 3], "values: must be finite"),
        ("offsets", [1, 2, 2, 3], "offsets: must be"),
        ("offsets", [0, 3, 2, 3], "offsets: must not decrease"),
        ("offsets", [0, 2, 2, 4], "indices, values"),
        ("offsets", [], "offsets: must be"),
    ],
)
def test_what_validate_refuses(field: str, value: list[float], message: str) -> None:
    array = np.array(value, dtype=getattr(GOOD, field).dtype)
    with pytest.raises(CodesError, match=f"^{message}"):
        dataclasses.replace(GOOD, **{field: array}).validate()
