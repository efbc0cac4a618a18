"""The routes of the studio: its page, which holds nothing of anybody, and its gallery, which is for
the callers that the server knows.

What the page asks of the model goes through the routes of everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.requests import ModelSelector, find_concept
from serving.http.door import Endpoint, HttpCall, Services
from serving.http.json_body import dump_json, load_json
from serving.http.json_messages import shown
from serving.http.native_routes import query_of
from serving.models.loaded_model import ServedModel
from serving.studio.gallery_pictures import GalleryPicture
from serving.studio.gallery_reader import GalleryReader
from serving.studio.page_files import PageFile, read_page

GALLERY = "/studio/gallery"
"""What the gallery's calls are counted as. The rules are those of any method without its own."""
MAX_TERMS = 512
MAX_HITS = 100
MAX_WEIGHT = 1_000_000


@dataclass(kw_only=True)
class _PictureCall(HttpCall):
    """A call that is answered with a picture's bytes."""

    picture_type: str

    @property
    def media_type(self) -> str:
        """The type of the picture."""
        return self.picture_type


def studio_routes(services: Services, gallery: GalleryReader, server: str) -> list[BaseRoute]:
    """The page and its gallery; `server` is the address that clients over gRPC take."""
    handlers = _GalleryCalls(services, gallery, server)
    calls = [
        ("gallery", handlers.describe, "GET"),
        ("gallery/pictures/{name:path}", handlers.picture, "GET"),
        ("gallery/search", handlers.search, "POST"),
        ("concepts/{concept}/pictures", handlers.evidence, "GET"),
    ]
    routes: list[BaseRoute] = [
        Route(f"/studio/api/{path}", Endpoint(services, make), methods=[method])
        for path, make, method in calls
    ]
    pages = [
        Route(f"/studio/{path}", _page(file), methods=["GET"]) for path, file in read_page().items()
    ]
    return [
        *routes,
        *pages,
        *(Route(path, _to_studio, methods=["GET"]) for path in ("/", "/studio")),
    ]


async def _to_studio(request: Request) -> Response:
    return RedirectResponse("/studio/")


def _page(file: PageFile) -> Any:
    async def answer(request: Request) -> Response:
        # A browser asks each time, and after an update no old file stands beside a new one.
        headers = {"cache-control": "no-cache", "etag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    return answer


class _GalleryCalls:
    """Makes the calls of the gallery's routes."""

    def __init__(self, services: Services, gallery: GalleryReader, server: str) -> None:
        self._services, self._gallery, self._server = services, gallery, server
        self._by_name = {picture.name: picture for picture in gallery.folder.pictures}

    def describe(self, request: Request) -> HttpCall:
        """What the gallery has, and how far it is embedded."""

        async def answer(_: Any, context: Any) -> dict[str, Any]:
            gallery = self._gallery
            with self._services.registry.lease(ModelSelector()) as model:
                chat = _chat(model)
            return {
                "name": gallery.folder.title,
                "pictures": [{"name": picture.name} for picture in gallery.folder.pictures],
                "embedded": gallery.embedded,
                "left_out": gallery.left_out,
                "ready": gallery.ready,
                "chat": chat,
                "server": self._server,
            }

        return _json_call(answer)

    def picture(self, request: Request) -> HttpCall:
        """One picture, by its name, which may be a path in an exported folder."""
        picture = self._by_name.get(request.path_params["name"])

        async def answer(_: Any, context: Any) -> bytes:
            if picture is None:
                raise ServingError(ErrorKind.NOT_FOUND, "the gallery has no such picture")
            return await self._read(picture)

        return _PictureCall(
            method=GALLERY,
            request_deserializer=lambda _: None,
            response_serializer=lambda data: data,
            unary_unary=answer,
            picture_type="image/png" if picture is None else picture.media_type,
        )

    async def _read(self, picture: GalleryPicture) -> bytes:
        most = self._services.limits.image_bytes
        try:
            return await asyncio.get_running_loop().run_in_executor(None, picture.read, most)
        except OSError:
            raise ServingError(ErrorKind.NOT_FOUND, "the picture cannot be read") from None

    def search(self, request: Request) -> HttpCall:
        """The pictures nearest to weighted concepts, why each is, and whether all were read."""

        async def answer(body: Mapping[str, Any], context: Any) -> dict[str, Any]:
            _only(body, ("terms", "limit"), "")
            limit = body.get("limit", 12)
            if type(limit) is not int or not 1 <= limit <= MAX_HITS:
                raise invalid("limit", f"must be a number from 1 to {MAX_HITS}")
            with self._services.registry.lease(ModelSelector()) as model:
                weights = _weights(body.get("terms"), model)
                hits = self._gallery.index.search(weights, limit)
                return {
                    "hits": [
                        {
                            "picture": self._name(hit.row),
                            "score": hit.score,
                            "reasons": [
                                {
                                    "concept_id": reason.concept,
                                    "name": model.concepts[reason.concept].name,
                                    "value": reason.value,
                                    "contribution": reason.contribution,
                                }
                                for reason in hit.reasons
                            ],
                        }
                        for hit in hits
                    ],
                    "ready": self._gallery.ready,
                }

        return _json_call(answer, read=load_json)

    def evidence(self, request: Request) -> HttpCall:
        """The pictures on which a concept is strongest."""

        async def answer(_: Any, context: Any) -> dict[str, Any]:
            concept = _number(request.path_params["concept"], "concept", 0, 2**32 - 1)
            limit = query_of(request, ("limit",)).get("limit", "6")
            hits = _number(limit, "limit", 1, MAX_HITS)
            with self._services.registry.lease(ModelSelector()) as model:
                find_concept(model.concepts, concept, "concept", kind=ErrorKind.NOT_FOUND)
            return {
                "pictures": [
                    {"picture": self._name(row), "value": value}
                    for row, value in self._gallery.index.strongest(concept, hits)
                ]
            }

        return _json_call(answer)

    def _name(self, row: int) -> str:
        return self._gallery.folder.pictures[row].name


def _json_call(answer: Any, read: Any = lambda _: None) -> HttpCall:
    return HttpCall(
        method=GALLERY,
        request_deserializer=read,
        response_serializer=dump_json,
        unary_unary=answer,
    )


def _chat(model: ServedModel) -> dict[str, Any]:
    """Whether the model answers questions, or why not; and how it edits words."""
    try:
        words = model.chat.phrase_defaults
    except ServingError as error:
        return {"available": False, "reason": error.message, "top": 32, "strength": 0.5}
    return {"available": True, "reason": "", "top": words.top, "strength": words.strength}


def _weights(terms: Any, model: ServedModel) -> dict[int, float]:
    if not isinstance(terms, list) or not 1 <= len(terms) <= MAX_TERMS:
        raise invalid("terms", f"must be a list of 1 to {MAX_TERMS} terms")
    weights: dict[int, float] = {}
    for i, term in enumerate(terms):
        at = f"terms[{i}]"
        if not isinstance(term, dict):
            raise invalid(at, "must be an object")
        _only(term, ("concept_id", "weight"), f"{at}.")
        concept, weight = term.get("concept_id"), term.get("weight")
        if type(concept) is not int or concept < 0:
            raise invalid(f"{at}.concept_id", "must be the id of a concept")
        find_concept(model.concepts, concept, f"{at}.concept_id")
        if not _is_number(weight) or not abs(weight) <= MAX_WEIGHT:  # NaN is not up to it
            raise invalid(
                f"{at}.weight", f"must be a number from -{MAX_WEIGHT:,} to {MAX_WEIGHT:,}"
            )
        if concept in weights:
            raise invalid(f"{at}.concept_id", "appears twice")
        weights[concept] = float(weight)
    return weights


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str, field: str, low: int, high: int) -> int:
    """A number in an address. Raises ServingError."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_number or not low <= int(text) <= high:
        raise invalid(field, f"must be a number from {low} to {high}")
    return int(text)


def _only(data: Mapping[str, Any], names: tuple[str, ...], at: str) -> None:
    if unknown := sorted(set(data) - set(names)):
        raise invalid(shown(f"{at}{unknown[0]}"), "there is no such field")
