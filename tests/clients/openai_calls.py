"""Calls of OpenAI's client, blocking or asyncio: `python openai_calls.py MODE < JSON > JSON`.

It prints what it was answered; the tests compare that with our own client.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI


def blocking(given: dict[str, Any]) -> list[Any]:
    """One call after another."""
    client = OpenAI(base_url=given["address"] + "/v1", api_key=given["key"], max_retries=0)
    return [answer(client, made) for made in given["calls"]]


def answer(client: OpenAI, made: dict[str, Any]) -> Any:
    """The reply to one call, or the chunks of a stream."""
    try:
        if made["of"] == "models":
            return [model.model_dump() for model in client.models.list()]
        if made["of"] == "embeddings":
            return client.embeddings.create(**made["body"]).model_dump()
        reply: Any = client.chat.completions.create(**made["body"])
        if not made["body"].get("stream"):
            return reply.model_dump()
        chunks = []
        with reply:
            for chunk in reply:
                chunks.append(chunk.model_dump())
                if len(chunks) == made.get("hang_up_after"):
                    break
        return chunks
    except APIError as error:
        return told(error)


async def aio(given: dict[str, Any]) -> list[Any]:
    """All calls at once."""
    address = given["address"] + "/v1"
    async with AsyncOpenAI(base_url=address, api_key=given["key"], max_retries=0) as client:
        return await asyncio.gather(*(answer_aio(client, made) for made in given["calls"]))


async def answer_aio(client: AsyncOpenAI, made: dict[str, Any]) -> Any:
    """The same of the client of asyncio."""
    try:
        if made["of"] == "models":
            return [model.model_dump() async for model in client.models.list()]
        if made["of"] == "embeddings":
            return (await client.embeddings.create(**made["body"])).model_dump()
        reply: Any = await client.chat.completions.create(**made["body"])
        if not made["body"].get("stream"):
            return reply.model_dump()
        chunks = []
        async with reply:
            async for chunk in reply:
                chunks.append(chunk.model_dump())
                if len(chunks) == made.get("hang_up_after"):
                    break
        return chunks
    except APIError as error:
        return told(error)


def told(error: APIError) -> dict[str, Any]:
    """What the client raised, as JSON."""
    return {
        "raised": type(error).__name__,
        "status": error.status_code if isinstance(error, APIStatusError) else None,
        "message": error.message,
        "param": error.param,
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps(asyncio.run(aio(given)) if sys.argv[1] == "aio" else blocking(given)))
