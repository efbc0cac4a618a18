"""Tensors on the wire: elements there and back, and bytes that are none."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.errors import ErrorKind, ServingError
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.tensors import RawTensor, elements_of, joined, split
from tests.support.explore import examples

AT = "inputs.image"
ELEMENTS = st.lists(st.binary(max_size=20), max_size=6)


def tensor(shape: list[int], datatype: str = "BYTES", **contents: Any) -> Any:
    return pb.ModelInferRequest.InferInputTensor(
        name="image",
        datatype=datatype,
        shape=shape,
        contents=pb.InferTensorContents(**contents) if contents else None,
    )


def refusal(*arguments: Any) -> str:
    with pytest.raises(ServingError) as caught:
        elements_of(*arguments, AT)
    assert caught.value.kind is ErrorKind.INVALID
    assert caught.value.field.startswith(AT)
    return caught.value.message


@given(ELEMENTS)
@examples(200)
def test_elements_come_back_as_they_were(elements: list[bytes]) -> None:
    assert split(joined(elements), len(elements), AT) == elements


@given(ELEMENTS, st.integers(0, 8))
@examples(200)
def test_another_number_of_elements_than_the_shape_has_is_refused(
    elements: list[bytes], count: int
) -> None:
    if count == len(elements):
        return
    with pytest.raises(ServingError, match="elements") as caught:
        split(joined(elements), count, AT)
    assert caught.value.field == AT


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6), st.data())
@examples(200)
def test_a_raw_tensor_that_is_cut_is_refused(elements: list[bytes], data: st.DataObject) -> None:
    whole = joined(elements)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ServingError, match=AT):
        split(whole[:cut], len(elements), AT)


@given(st.binary(max_size=60), st.integers(1, 5))
@examples(500)
def test_any_bytes_are_elements_or_are_refused(raw: bytes, count: int) -> None:
    elements: list[bytes] = []
    error = None
    try:
        elements = split(raw, count, AT)
    except ServingError as caught:
        error = caught
    if error is None:
        assert (len(elements), joined(elements)) == (count, raw)
    else:
        assert (error.kind, error.field) == (ErrorKind.INVALID, AT)


def test_a_length_that_nothing_backs_costs_no_memory() -> None:
    with pytest.raises(ServingError, match="end inside element 1"):
        split(joined([b"a"]) + struct.pack("<I", 2**32 - 1), 2, AT)


@pytest.mark.parametrize("raw", [True, False])
def test_both_ways_to_send_elements_give_the_same(raw: bool) -> None:
    elements = [b"\x89PNG", b"", b"c"]
    sent = tensor([3]) if raw else tensor([3], bytes_contents=elements)
    assert elements_of(sent, joined(elements) if raw else None, 3, AT) == elements


@pytest.mark.parametrize(
    ("sent", "raw", "problem"),
    [
        (tensor([1], "FP32"), b"", "must be BYTES"),
        (tensor([1], ""), b"", "must be BYTES"),
        (tensor([]), b"", "must be one size"),
        (tensor([1, 1]), joined([b"a"]), "must be one size"),
        (tensor([0]), b"", "must be one size"),
        (tensor([-1]), b"", "must be one size"),
        (tensor([-(2**63)]), b"", "must be one size"),
        (tensor([5]), b"", "more than 4 elements"),
        (tensor([2**63 - 1]), b"", "more than 4 elements"),
        (tensor([2]), joined([b"a"]), "1 elements, but 2 by its shape"),
        (tensor([1]), joined([b"a", b"b"]), "more bytes than the 1 elements"),
        (tensor([1]), b"\1\0\0", "end inside element 0"),
        (tensor([1]), b"", "0 elements, but 1 by its shape"),
        (tensor([1]), None, "0 elements, but 1 by its shape"),
        (tensor([1], bytes_contents=[b"a", b"b"]), None, "2 elements, but 1 by its shape"),
        (tensor([1], bytes_contents=[b"a"]), joined([b"a"]), "must be empty beside raw"),
        (tensor([1], fp32_contents=[1.0]), None, "are in bytes_contents"),
        (tensor([1], fp32_contents=[1.0], bytes_contents=[b"a"]), None, "are in bytes_contents"),
    ],
)
def test_what_does_not_agree_is_named(sent: Any, raw: bytes | None, problem: str) -> None:
    assert problem in refusal(sent, raw, 4)


def test_numbers_are_little_endian_and_in_the_order_of_rows() -> None:
    sent = RawTensor.of_array(np.array([[1, 2], [3, 4]], dtype=">i8").T, "INT32")
    assert sent.shape == (2, 2)
    assert struct.unpack("<4i", sent.raw) == (1, 3, 2, 4)
