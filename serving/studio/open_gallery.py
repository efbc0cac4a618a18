"""The gallery that a server's settings name."""

from __future__ import annotations

from serving.core.config import ServerConfig
from serving.core.errors import StartupError
from serving.models.registry import Registry
from serving.studio.gallery_pictures import read_folder
from serving.studio.gallery_reader import GalleryReader


def open_gallery(config: ServerConfig, registry: Registry) -> GalleryReader:
    """Its pictures, and what is known of their codes. Raises StartupError."""
    most_bytes = config.limits.image_bytes
    if config.gallery is None or config.gallery_export is None:
        return GalleryReader(read_folder(config.gallery), registry, most_bytes)
    try:
        from serving.studio.gallery_export import read_export
    except ModuleNotFoundError as error:
        hint = "pip install 'sparseclip[export]'"
        raise StartupError(f"gallery_export: needs the package {error.name}: {hint}") from None
    exported = read_export(config.gallery_export, config.gallery)
    return GalleryReader(exported.folder, registry, most_bytes, exported)
