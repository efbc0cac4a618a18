"""The error of models that are read from files of other libraries."""

from __future__ import annotations


class ModelImportError(ValueError):
    """A model that is not read. The message says why in one line, and holds no path."""
