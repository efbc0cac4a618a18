"""The codes of the gallery under the model that is served: of an export, or embedded beside the
calls of visitors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from serving.batching.item_results import EmbeddedItem
from serving.core.errors import ServingError, StartupError
from serving.core.requests import ImageItem, ModelId, ModelSelector
from serving.engines.base import EngineError
from serving.engines.outputs import OutputRow
from serving.models.loaded_model import ServedModel
from serving.models.registry import Registry
from serving.studio.gallery_index import GalleryIndex
from serving.studio.gallery_pictures import PictureFolder

log = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often the reader looks whether another model is served."""
_PICTURE_S = 60.0
"""How long one picture may take while much waits before it."""
_EMPTY = GalleryIndex({})


@dataclass(frozen=True, kw_only=True)
class ExportedGallery:
    """Pictures of a folder, with the codes that an export has of them."""

    folder: PictureFolder
    codes: Mapping[int, OutputRow]
    """By the numbers of the pictures; every picture has one."""
    model: str
    """Name and version of the model that made the export."""
    bundle: str
    """Digest of its bundle."""


class GalleryReader:
    """The gallery under the model that is served; it is read anew when that changes."""

    def __init__(
        self,
        folder: PictureFolder,
        registry: Registry,
        most_bytes: int,
        exported: ExportedGallery | None = None,
    ) -> None:
        """`most_bytes` is the most that a picture may have. With the bundle that made `exported`,
        no picture is embedded."""
        self.folder = folder
        self.index = _EMPTY
        """Of the pictures that are embedded so far."""
        self.embedded = 0
        """How many pictures were embedded, or could not be."""
        self.left_out = 0
        """How many could not be."""
        self._registry = registry
        self._most_bytes = most_bytes
        self._exported = exported
        self._of: ModelId | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether all pictures have been read."""
        return self.embedded == len(self.folder.pictures)

    def check_model(self) -> None:
        """Raises StartupError if another bundle than the one that is served made the export."""
        model, exported = self._registry.default_model, self._exported
        if model is not None and exported is not None and model.digest != exported.bundle:
            raise StartupError(
                f"gallery_export: made by {exported.model}, and the server has another bundle, "
                f"{model.id.name}/{model.id.version}: export the pictures again"
            )

    def start(self) -> None:
        """Begins to read in the background, as soon as there is a model."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            model = self._registry.default_model
            if model is not None and model.id != self._of:
                try:
                    await self._read()
                except (EngineError, ServingError):  # the model is on its way out: try the next
                    log.info("gallery: the model does not answer")
            await asyncio.sleep(_LOOK_S)

    async def _read(self) -> None:
        """Embeds all pictures with the default model, which stays loaded until then."""
        with self._registry.lease(ModelSelector()) as model:
            self.embedded = self.left_out = 0
            self.index = _EMPTY
            exported = self._exported
            if exported is not None and exported.bundle == model.digest:
                codes = exported.codes
            else:
                codes = await self._embed(model)
            self.index, self._of = GalleryIndex(codes), model.id
            self.embedded = len(self.folder.pictures)
        if self.left_out:
            log.warning("gallery: %d pictures are left out", self.left_out)

    async def _embed(self, model: ServedModel) -> dict[int, OutputRow]:
        codes: dict[int, OutputRow] = {}
        if model.architecture.is_sparse:
            for row in range(len(self.folder.pictures)):
                code = await self._code(model, row)
                if code is not None:
                    codes[row] = code
                self.left_out += code is None
                self.embedded += 1
        return codes

    async def _code(self, model: ServedModel, row: int) -> OutputRow | None:
        picture = self.folder.pictures[row]
        loop = asyncio.get_running_loop()
        try:
            data = await loop.run_in_executor(None, picture.read, self._most_bytes)
        except OSError:
            return None
        item = ImageItem(id="", data=data)
        result = await model.embed_when_free(item, loop.time() + _PICTURE_S)
        return result.row if isinstance(result, EmbeddedItem) else None
