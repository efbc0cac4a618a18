"""`POST /v1/embeddings`: as OpenAI's clients call it, and with pictures as infinity, vLLM and Jina
have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from starlette.routing import BaseRoute, Route

from serving.core.errors import invalid
from serving.http.body_model import StrictBody
from serving.http.door import Endpoint, Services
from serving.http.embedding_call import EmbeddingQuery, embedding_call
from serving.http.embedding_inputs import EmbeddingInputs, InputKind
from serving.http.embedding_vectors import EmbeddingAnswer, VectorForm, forms_of
from serving.http.json_body import dump_list, dump_object
from serving.http.json_messages import shown
from serving.http.openai_chat_body import ChatMessageBody
from serving.http.system_routes import model_selector


class EmbeddingsBody(StrictBody):
    """Texts and pictures, and in which form their vectors are wanted."""

    input: Any = Field(
        None,
        description="A text or a list of texts; with `modality: image` data URIs; or a list of "
        'objects `{"text": ...}` and `{"image": ...}`.',
    )
    messages: list[ChatMessageBody] | None = Field(
        None, description="In place of `input`: one message with one part."
    )
    model: str = ""
    modality: InputKind = "text"
    encoding_format: Literal["float", "base64"] = "float"
    embedding_types: list[str] | None = Field(
        None, description="float, base64, sparse; in place of `encoding_format`."
    )
    dimensions: int | None = Field(None, description="The number that the model has, or 0.")
    truncate: bool = Field(True, description="false: a text that is too long is an error.")
    normalized: Literal[True] = True
    user: str | None = None


def embeddings_routes(services: Services) -> list[BaseRoute]:
    """The routes of vectors; infinity's own has no version."""
    call = embedding_call(services, EmbeddingsBody, _query, _reply)
    endpoint = Endpoint(services, lambda _: call)
    paths = ("/v1/embeddings", "/embeddings")
    return [Route(path, endpoint, methods=["POST"]) for path in paths]


def _query(body: EmbeddingsBody) -> EmbeddingQuery:
    inputs = _inputs(body)
    if body.embedding_types is None:
        forms: Sequence[VectorForm] = (body.encoding_format,)
    else:
        forms = forms_of(body.embedding_types, "embedding_types")
        inputs.paths.add("outputs.sparse", "embedding_types")
    dimensions = ("dimensions", body.dimensions or None)  # infinity's client says 0
    return EmbeddingQuery(inputs=inputs, forms=forms, dimensions=dimensions)


def _inputs(body: EmbeddingsBody) -> EmbeddingInputs:
    inputs = EmbeddingInputs(model_selector(body.model))
    inputs.request.options.refuse_long_texts = not body.truncate
    if body.messages is not None:
        if body.input is not None:
            raise invalid("messages", "cannot be combined with input")
        if "modality" in body.model_fields_set:
            raise invalid("modality", "the part of the message says what it is")
        _add_message(inputs, body.messages)
        return inputs
    if body.input is None:
        raise invalid("input", "is needed")
    inputs.paths.add("inputs", "input")
    if not isinstance(body.input, list):
        inputs.add(body.modality, body.input, "input")
        return inputs
    if body.input and isinstance(body.input[0], int):
        inputs.add_text(body.input, "input")  # refuses token ids
    for i, entry in enumerate(body.input):
        if isinstance(entry, dict):
            _add_object(inputs, entry, f"input[{i}]")
        else:
            inputs.add(body.modality, entry, f"input[{i}]")
    return inputs


def _add_object(inputs: EmbeddingInputs, entry: dict[str, Any], at: str) -> None:
    """Adds a text or a picture as Jina has it."""
    if len(entry) != 1:
        raise invalid(at, "must have one field, text or image: one input gives one vector")
    [(kind, value)] = entry.items()
    if kind == "text":
        inputs.add_text(value, f"{at}.text")
    elif kind == "image":
        inputs.add_image(value, f"{at}.image", bare=True)
    else:
        raise invalid(f"{at}.{shown(kind)}", "this server has no such field")


def _add_message(inputs: EmbeddingInputs, messages: list[ChatMessageBody]) -> None:
    """Adds a text or a picture as vLLM has it: a conversation."""
    if len(messages) != 1 or messages[0].role != "user":
        raise invalid("messages", "must be one message of the user")
    if len(messages[0].content) != 1:
        raise invalid("messages[0].content", "must be one part: one input gives one vector")
    at, [part] = "messages[0].content[0]", messages[0].content
    for name in ("steering", "framing"):
        if getattr(part, name) is not None:
            raise invalid(f"{at}.{name}", "only conversations have it")
    inputs.add_part(part, at)


def _reply(answer: EmbeddingAnswer, query: EmbeddingQuery) -> bytes:
    main, *others = query.forms
    data = [
        dump_object(
            {
                "object": "embedding",
                "index": i,
                "embedding": vector,
                **{form: answer.forms[form][i] for form in others},
                "sparseclip": answer.notes[i],
            }
        )
        for i, vector in enumerate(answer.forms[main])
    ]
    fields = {
        "object": "list",
        "data": dump_list(data),
        "model": answer.model,
        "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
        "sparseclip": {"vector": answer.vector},
    }
    return dump_object(fields)
