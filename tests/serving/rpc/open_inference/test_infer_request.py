"""Calls of ModelInfer: what is read of them, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.requests import ImageItem, ModelSelector, TextItem
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.infer_request import infer_call, item_count
from tests.serving.rpc.open_inference.infer_requests import infer_request, parameter
from tests.serving.support.wire_contract import messages
from tests.support.explore import examples

LIMITS = LimitsConfig(images_per_call=2, texts_per_call=3, id_bytes=4, top_concepts=20)
SPARSE: Any = SimpleNamespace(is_sparse=True, dense=None)
SHARED: Any = SimpleNamespace(is_sparse=True, dense="shared")
DENSE: Any = SimpleNamespace(is_sparse=False, dense="shared")


def refusal(request: pb.ModelInferRequest) -> ServingError:
    with pytest.raises(ServingError) as caught:
        infer_call(request, LIMITS)
    assert caught.value.kind is ErrorKind.INVALID
    assert caught.value.message.startswith(f"{caught.value.field}: ")
    return caught.value


@pytest.mark.parametrize("raw", [True, False])
def test_a_call_of_images(raw: bool) -> None:
    parameters = {"framing": "pad", "top_concepts": 3, "priority": 2, "timeout": 2_500_000}
    request = infer_request(
        "image", [b"a", b"b"], "names", raw=raw, parameters=parameters, id="7", model_version="1"
    )
    call = infer_call(request, LIMITS)
    assert call.items == tuple(ImageItem(id="", data=d, framing="pad") for d in (b"a", b"b"))
    assert call.selector == ModelSelector(name="tiny", version="1")
    assert call.options.priority == "bulk"
    assert (call.input, call.id, call.tensors) == ("image", "7", ("names",))
    assert (call.top_concepts, call.timeout_s) == (3, 2.5)


def test_a_call_of_texts() -> None:
    request = infer_request("text", ["ä".encode(), b""], parameters={"refuse_long_texts": True})
    call = infer_call(request, LIMITS)
    assert call.items == tuple(TextItem(id="", text=t, refuse_long=True) for t in ("ä", ""))
    assert (call.tensors, call.top_concepts, call.timeout_s) == ((), 10, None)
    assert call.options.priority is None


def test_what_clients_send_by_themselves_is_accepted() -> None:
    parameters = {"binary_data_output": True, "triton_enable_empty_final_response": True}
    request = infer_request("image", [b"abc"], "norm", parameters=parameters)
    request.inputs[0].parameters["binary_data_size"].CopyFrom(parameter(7))
    request.outputs[0].parameters["binary_data"].CopyFrom(parameter(False))
    assert infer_call(request, LIMITS).tensors == ("norm",)


def change(edit: Callable[[pb.ModelInferRequest], object]) -> pb.ModelInferRequest:
    request = infer_request("text", [b"a"])
    edit(request)
    return request


def given_parameter(name: str, value: Any) -> pb.ModelInferRequest:
    return infer_request("text", [b"a"], parameters={name: value})


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ModelInferRequest(), "inputs"),
        (change(lambda r: r.inputs.add(name="image")), "inputs"),
        (infer_request("pixels", [b"a"]), "inputs[0].name"),
        (infer_request("image", [b"a"] * 3), "inputs.image.shape"),
        (infer_request("text", [b"a"] * 4), "inputs.text.shape"),
        (infer_request("text", [b"a", b"\xff"]), "inputs.text[1]"),
        (change(lambda r: r.raw_input_contents.append(b"")), "raw_input_contents"),
        (infer_request("text", [b"a"], id="12345"), "id"),
        (infer_request("text", [b"a"], "codes"), "outputs[0].name"),
        (infer_request("text", [b"a"], "norm", "norm"), "outputs[1].name"),
        (given_parameter("top_concepts", 0), "parameters.top_concepts"),
        (given_parameter("top_concepts", 21), "parameters.top_concepts"),
        (given_parameter("top_concepts", "3"), "parameters.top_concepts"),
        (given_parameter("top_concepts", True), "parameters.top_concepts"),
        (given_parameter("framing", "squash"), "parameters.framing"),
        (given_parameter("framing", 1), "parameters.framing"),
        (given_parameter("refuse_long_texts", "yes"), "parameters.refuse_long_texts"),
        (given_parameter("priority", -1), "parameters.priority"),
        (given_parameter("timeout", -1), "parameters.timeout"),
        (given_parameter("timeout", 1.5), "parameters.timeout"),
        (given_parameter("sequence_id", 3), "parameters.sequence_id"),
        (given_parameter("top_concept", 3), "parameters.top_concept"),
        (given_parameter("a\nb" * 9, 3), "parameters"),
    ],
)
def test_what_is_refused_is_named(request_: pb.ModelInferRequest, field: str) -> None:
    assert refusal(request_).field == field


@pytest.mark.parametrize("holder", ["inputs", "outputs"])
@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
def test_what_tritons_extensions_add_is_refused_by_name(holder: str, name: str) -> None:
    request = infer_request("text", [b"a"], "norm")
    getattr(request, holder)[0].parameters[name].CopyFrom(parameter(1))
    assert refusal(request).field.endswith(f".parameters.{name}")


@pytest.mark.parametrize(("raw", "size"), [(True, 4), (False, 5), (True, "5")])
def test_a_size_that_is_not_that_of_the_contents_is_refused(raw: bool, size: Any) -> None:
    request = infer_request("text", [b"a"], raw=raw)
    request.inputs[0].parameters["binary_data_size"].CopyFrom(parameter(size))
    assert refusal(request).field == "inputs.text.parameters.binary_data_size"


def test_outputs_are_those_of_the_model() -> None:
    every = infer_call(infer_request("text", [b"a"]), LIMITS)
    codes = ("indices", "values", "active", "norm", "names")
    assert every.outputs_of(SPARSE) == codes
    assert every.outputs_of(SHARED) == (*codes, "dense")
    assert every.outputs_of(DENSE) == ("dense",)
    chosen = infer_call(infer_request("text", [b"a"], "norm", "indices"), LIMITS)
    assert chosen.outputs_of(SPARSE) == ("norm", "indices")
    vectors = infer_call(infer_request("text", [b"a"], "dense"), LIMITS)
    for call, architecture, field in (
        (chosen, DENSE, "outputs.norm"),
        (vectors, SPARSE, "outputs.dense"),
    ):
        with pytest.raises(ServingError) as caught:
            call.outputs_of(architecture)
        assert (caught.value.kind, caught.value.field) == (ErrorKind.CONFLICT, field)


@given(messages(pb.ModelInferRequest.DESCRIPTOR))
@examples(300)
def test_any_message_is_a_call_or_is_refused_by_name(request: pb.ModelInferRequest) -> None:
    assert item_count(request) >= 1
    error = None
    try:
        infer_call(request, LIMITS)
    except ServingError as caught:
        error = caught
    assert error is None or (error.kind is ErrorKind.INVALID and error.field)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3), max_size=3))
@examples(100)
def test_the_items_of_any_shape_can_be_counted(shapes: list[list[int]]) -> None:
    request = pb.ModelInferRequest()
    for shape in shapes:
        request.inputs.add(shape=shape)
    assert item_count(request) >= 1
