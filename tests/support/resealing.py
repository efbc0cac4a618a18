"""A bundle whose files were changed, with a manifest that fits them again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bundle.manifest import Manifest
from bundle.verify import MANIFEST, describe_files


def reseal(root: Path) -> None:
    """Makes the manifest fit the files, as somebody with bad intentions would."""
    manifest = Manifest.from_json((root / MANIFEST).read_text())
    sealed = dataclasses.replace(manifest, files=describe_files(root))
    (root / MANIFEST).write_text(sealed.to_json())
