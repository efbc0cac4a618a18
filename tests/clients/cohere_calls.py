"""Calls of Cohere's client, blocking or asyncio: `python cohere_calls.py MODE < JSON > JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from cohere import AsyncClientV2, ClientV2
from cohere.core import ApiError


def blocking(given: dict[str, Any]) -> list[dict[str, Any]]:
    """One call after another."""
    client = ClientV2(api_key=given["key"], base_url=given["address"])
    answers = []
    for body in given["calls"]:
        try:
            answers.append(told(client.embed(**body)))
        except ApiError as error:
            answers.append(refused(error))
    return answers


async def aio(given: dict[str, Any]) -> list[dict[str, Any]]:
    """All calls at once."""
    client = AsyncClientV2(api_key=given["key"], base_url=given["address"])
    calls = (client.embed(**body) for body in given["calls"])
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [refused(one) if isinstance(one, ApiError) else told(one) for one in answers]


def told(answer: Any) -> dict[str, Any]:
    """A reply as JSON, with what the client has no field for."""
    told: dict[str, Any] = json.loads(answer.model_dump_json())
    return told


def refused(error: ApiError) -> dict[str, Any]:
    """What the client raised, as JSON."""
    return {"raised": type(error).__name__, "status": error.status_code, "body": error.body}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps(asyncio.run(aio(given)) if sys.argv[1] == "aio" else blocking(given)))
