"""What a run's weights belong to, beside its recipe: a resumed run must find the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bundle.atomic import write_file
from bundle.schema import from_dict
from training.core.checkpoint import CheckpointError

INPUTS_FILE = "inputs.json"


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """What a run has written into its folder about the models and lists that its recipe names."""

    backbone: str
    """NAME/VERSION of the bundle."""
    codes: str
    """SHA-256 of its graph of patches."""
    width: int
    """The hidden size of the language model."""
    texts: str = ""
    """A digest of the phrases that it learns from and of the words that are withheld, where there
    are any."""

    def keep(self, run: Path) -> None:
        """Writes them into a new run's folder, or compares them with those that it began with.
        Raises CheckpointError where a recipe's paths lead to others now."""
        try:
            begun = from_dict(RunInputs, json.loads((run / INPUTS_FILE).read_bytes()), at="")
        except FileNotFoundError:
            write_file(run / INPUTS_FILE, json.dumps(asdict(self), indent=1).encode())
            return
        except (OSError, ValueError):
            raise CheckpointError(f"{run.name}: {INPUTS_FILE}: cannot be read") from None
        if begun.codes != self.codes:
            raise CheckpointError(
                f"{run.name}: began with the concepts of {begun.backbone}, and those of"
                f" {self.backbone} are others; name the bundle's version in the recipe, or take a"
                " new --output"
            )
        if begun.width != self.width:
            raise CheckpointError(
                f"{run.name}: llm: began with a hidden_size of {begun.width}, and it is"
                f" {self.width} now; take a new --output"
            )
        if begun.texts != self.texts:
            raise CheckpointError(
                f"{run.name}: texts: began with other phrases than the recipe's sources give now;"
                " restore the lists, or take a new --output"
            )
