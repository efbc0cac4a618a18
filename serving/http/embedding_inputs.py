"""What callers of the embedding routes send, as one call of Embed."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from serving.core.errors import ServingError, invalid
from serving.core.requests import ModelSelector
from serving.http.data_uri import image_of
from serving.http.field_paths import FieldPaths
from serving.http.json_messages import decode_base64, unicode_text
from serving.http.openai_chat_body import ImageAddress
from serving.rpc.error_to_status import from_status
from sparseclip.v1 import embedding_pb2, types_pb2

InputKind = Literal["text", "image"]


class InputPart(Protocol):
    """A text or an image, as OpenAI and Cohere spell one."""

    @property
    def type(self) -> Literal["text", "image_url"]:
        """Which of the two."""

    @property
    def text(self) -> str | None:
        """The text."""

    @property
    def image_url(self) -> ImageAddress | None:
        """The image."""


class EmbeddingInputs:
    """The inputs of one call, and how its caller names them."""

    def __init__(self, selector: ModelSelector) -> None:
        model = types_pb2.ModelSelector(name=selector.name, version=selector.version)
        self.selector = selector
        self.request = embedding_pb2.EmbedRequest(model=model)
        self.paths = FieldPaths()
        self._at: list[str] = []

    @property
    def texts(self) -> list[str]:
        """The texts, in their order."""
        return [entry.text for entry in self.request.inputs if entry.HasField("text")]

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.request.inputs) - len(self.texts)

    def add_text(self, text: Any, at: str) -> None:
        """Adds a text, which is at the path `at` of the body. Raises ServingError."""
        if isinstance(text, int | list):
            raise invalid(at, "token ids are those of another model: send texts")
        self._add(embedding_pb2.EmbedInput(text=unicode_text(text, at)), at)

    def add_image(self, image: Any, at: str, *, bare: bool = False) -> None:
        """Adds an image in a data URI; with `bare`, also one in base64 alone. Raises
        ServingError."""
        text = unicode_text(image, at)
        is_bare = bare and ":" not in text[:64]
        data = decode_base64(text, at) if is_bare else image_of(text, at)
        self._add(embedding_pb2.EmbedInput(image=data), at)

    def add_part(self, part: InputPart, at: str) -> None:
        """Adds a part, which must hold what its type says, and nothing else. Raises
        ServingError."""
        if part.type == "text" and part.text is not None and part.image_url is None:
            self.add_text(part.text, f"{at}.text")
        elif part.type == "image_url" and part.image_url is not None and part.text is None:
            self.add_image(part.image_url.url, f"{at}.image_url.url")
        else:
            raise invalid(f"{at}.{part.type}", "is needed, and nothing else")

    def add(self, kind: InputKind, value: Any, at: str) -> None:
        """Adds a text or an image. Raises ServingError."""
        if kind == "text":
            self.add_text(value, at)
        else:
            self.add_image(value, at)

    def _add(self, entry: embedding_pb2.EmbedInput, at: str) -> None:
        self.paths.add(f"inputs[{len(self._at)}]", at)
        self._at.append(at)
        self.request.inputs.append(entry)

    def error_of(self, i: int, result: embedding_pb2.EmbedResult) -> ServingError | None:
        """Why the item at `i` failed, as the failure of the whole call; None if it did not."""
        if result.status.code == 0:
            return None
        error = from_status(result.status)
        if error.field:
            return error.at(error.field, self._at[i])
        message = f"{self._at[i]}: {error.message}"
        return ServingError(error.kind, message, field=self._at[i], retry_after=error.retry_after)

    def shortfall(self, i: int, coverage: types_pb2.Coverage) -> str:
        """What the model did not read of an item, for a caller to see; empty where it read all."""
        if coverage.truncated:
            return f"{self._at[i]}: of {coverage.tokens} tokens the end was not read"
        if coverage.unknown_words:
            return f"{self._at[i]}: unknown words: {', '.join(coverage.unknown_words)}"
        return ""
