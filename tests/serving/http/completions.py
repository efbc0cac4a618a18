"""Bodies of OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

from tests.serving.http.support import data_uri

PATH = "/v1/chat/completions"


def image(**more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri()}, **more}


def asks(*parts: Any, **more: Any) -> dict[str, Any]:
    """A body like `question()`; `parts` in place of the picture."""
    content = [{"type": "text", "text": "What is this?"}, *(parts or (image(),))]
    messages = [{"role": "user", "content": content}]
    return {"model": "", "messages": messages, "max_tokens": 16, "temperature": 0, **more}
