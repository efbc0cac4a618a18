"""Where codes are searched: the contract in base.py, one file for each database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.index.databases.base import Database

DATABASES: Plugins[Database] = Plugins(
    "database",
    {
        "qdrant": Plugin("serving.index.databases.qdrant_database:QdrantFolder", "index"),
        "milvus": Plugin("serving.index.databases.milvus_database:MilvusDatabase", "index"),
        "pgvector": Plugin("serving.index.databases.pgvector_database:PgvectorDatabase", "index"),
        "opensearch": Plugin("serving.index.databases.bulk_files:OpenSearchFiles", "index"),
        "elasticsearch": Plugin("serving.index.databases.bulk_files:ElasticsearchFiles", "index"),
    },
)
