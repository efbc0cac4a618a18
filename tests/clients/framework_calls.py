"""Vectors by the classes of LangChain and LlamaIndex for OpenAI: `... FRAMEWORK < JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def langchain(given: dict[str, Any]) -> dict[str, Any]:
    """By `OpenAIEmbeddings`, blocking and asyncio."""
    from langchain_openai import OpenAIEmbeddings

    server = {"model": "tiny", "base_url": given["address"] + "/v1", "api_key": "any"}
    server["check_embedding_ctx_length"] = False
    texts = OpenAIEmbeddings(**server)
    images = OpenAIEmbeddings(**server, model_kwargs={"extra_body": {"modality": "image"}})
    return {
        "texts": texts.embed_documents(given["texts"]),
        "aio": asyncio.run(texts.aembed_documents(given["texts"])),
        "query": texts.embed_query(given["texts"][0]),
        "images": images.embed_documents(given["images"]),
    }


def llama_index(given: dict[str, Any]) -> dict[str, Any]:
    """By `OpenAILikeEmbedding`, blocking and asyncio."""
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    server = {"model_name": "tiny", "api_base": given["address"] + "/v1", "api_key": "any"}
    texts = OpenAILikeEmbedding(**server)
    images = OpenAILikeEmbedding(**server, additional_kwargs={"extra_body": {"modality": "image"}})
    return {
        "texts": texts.get_text_embedding_batch(given["texts"]),
        "aio": asyncio.run(texts.aget_text_embedding_batch(given["texts"])),
        "query": texts.get_query_embedding(given["texts"][0]),
        "images": images.get_text_embedding_batch(given["images"]),
    }


if __name__ == "__main__":
    function = {"langchain": langchain, "llama_index": llama_index}[sys.argv[1]]
    print(json.dumps(function(json.load(sys.stdin))))
