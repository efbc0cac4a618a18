"""Models of open_clip, by its own builders and files."""

from __future__ import annotations

from training.importing.base import (
    ImportedModel,
    ModelImportError,
    ModelSource,
    SourceOptions,
)


class OpenClipSource(ModelSource):
    """`ARCH/TAG`, `hf-hub:ORG/REPO`, `local-dir:PATH`, or `ARCH` with a file of weights."""

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        raise ModelImportError(f"open_clip: {self.label(rest)}: not read yet")

    def label(self, rest: str) -> str:
        """See ModelSource."""
        _, separator, path = rest.partition("local-dir:")
        return f"local-dir:{path.rstrip('/').rpartition('/')[2]}" if separator else rest
