"""An export as a user asks for it, fit to be sent to other processes and machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle.architecture import Architecture
from bundle.manifest import NO_CONCEPTS, NO_PATCHES, NO_SHARED_DENSE
from bundle.resizing import resizer
from bundle.store import Bundle, open_bundle
from serving.core.jpeg_decoder import JpegDecoder, described
from serving.engine_plans.open_engine import runtime_of
from serving.engines.base import REFERENCE, EngineConfig
from serving.export.formats import FORMATS
from serving.export.inputs import AUTO
from serving.export.inputs.base import Input, Modality
from serving.export.inputs.detection import open_input
from serving.export.job import LAYOUT, ExportError, ExportJob, OutputConfig
from serving.storage.file_names import printable, spell
from serving.storage.local_tree import link_to
from serving.storage.location import Location

LOCKS, DRAFTS = ".locks", ".drafts"
"""Folders of an output: what its processes lock, and the files that they are writing."""
DEFAULT_DECODERS = 8
"""At most this many decoders for each worker unless the user names a number."""


class BundleOnce:
    """A bundle that is verified once by each process that has it, however often it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process, perhaps of another machine, verifies what it reads itself.
        return BundleOnce, (self.path,)

    @cached_property
    def opened(self) -> Bundle:
        """Raises BundleError."""
        return open_bundle(self.path)


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export, where to, and with what. Every worker must find the locations at the same
    names."""

    source: str
    """A path or an fsspec URL."""
    kind: str = AUTO
    """A name of INPUTS, or AUTO."""
    column: str = ""
    id_column: str = ""
    prefix: str = ""
    """What each id begins with."""
    output: str
    """A path or an fsspec URL."""
    allow_empty: bool = False
    """Whether an input without entries makes an export without rows. Else it is an error."""
    bundle: BundleOnce
    outputs: OutputConfig = field(default_factory=OutputConfig)
    engine: EngineConfig = REFERENCE
    cores: int = 0
    """Cores that one worker uses; 0 before `with_cores`."""
    decoders: int = 0
    """Processes that decode images for one worker; 0 before `with_cores`."""
    decoder: JpegDecoder = "pillow"
    """What decodes JPEGs."""

    def with_cores(self, cores: int) -> ExportRequest:
        """The same with that many cores for each worker, and as many decoders (at most
        DEFAULT_DECODERS), where the user named none."""
        cores = self.cores or cores
        decoders = self.decoders or min(DEFAULT_DECODERS, cores)
        return dataclasses.replace(self, cores=cores, decoders=decoders)

    def open_input(self) -> Input:
        """Opens what is exported. Raises InputError, LocationError or PluginError."""
        return open_input(self.source, self.kind, self.column, self.id_column)

    def open_output(self) -> Location:
        """The folder of the output. Raises LocationError, or ExportError for one that ends with the
        process."""
        output = Location.parse(self.output)
        if "memory" in output.fs.protocol:
            raise ExportError(f"{self.output}: keeps nothing when the export ends")
        return output.with_drafts(DRAFTS)

    def describe(self) -> ExportJob:
        """The job without a plan. Raises ExportError, InputError, LocationError, BundleError,
        PluginError or EngineUnavailableError."""
        FORMATS.load(self.outputs.format)  # a missing library is found now, not after the plan
        source = self.open_input()
        if source.modality == "text" and self.outputs.patches:
            raise ExportError("--patch: texts have no patches")
        manifest = self.bundle.opened.manifest
        self._check_framing(source.modality, manifest.preprocessing.framings)
        self._check_concepts(manifest.architecture)
        if self.outputs.dense and manifest.architecture.dense is None:
            raise ExportError(f"--dense: {NO_SHARED_DENSE}")
        return ExportJob(
            layout=LAYOUT,
            modality=source.modality,
            column=self.column,
            id_column=self.id_column,
            prefix=self.prefix,
            outputs=self.outputs,
            model=f"{manifest.name}/{manifest.version}",
            bundle=manifest.digest,
            runtime=runtime_of(self.bundle.opened, self.engine),
            resizer=resizer() if source.modality == "image" else "",
            decoder=described(self.decoder if source.modality == "image" else "pillow"),
            entries=0,
            plan="",
        )

    def _check_concepts(self, architecture: Architecture) -> None:
        """Raises ExportError for columns that the bundle's model cannot fill."""
        outputs = self.outputs
        used = {"--sparse": outputs.sparse, "--top": outputs.top, "--patch": outputs.patches}
        for option, value in used.items():
            if value and not architecture.is_sparse:
                raise ExportError(f"{option}: {NO_CONCEPTS}")
        if outputs.patches and architecture.patch_grid is None:
            raise ExportError(f"--patch: {NO_PATCHES}")

    def _check_framing(self, modality: Modality, offered: Sequence[str]) -> None:
        """Raises ExportError for a framing that the input or the bundle does not have."""
        if self.outputs.framing is None:
            return
        if modality == "text":
            raise ExportError("--framing: texts have none")
        if self.outputs.framing not in offered:
            raise ExportError(f"--framing: the model offers {' and '.join(offered) or 'none'}")

    def refuse_inside(self) -> None:
        """Raises ExportError for an output in the input's folder, or in one that a link there leads
        to: the files of the export would become entries or decide the kind of the input."""
        folder, output = Location.parse(self.source), self.open_output()
        if output.is_below(folder):
            way = ""
        elif not (folder.is_local and output.is_local):
            return
        elif link := link_to(folder.path, output.path):
            way = f", by the link {printable(spell(link))}"
        else:
            return
        raise ExportError(
            f"{output.path}: inside the input {folder.path}{way}. Choose a folder outside of it"
        )
