"""The application of the HTTP door: its routes, and the layers around them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError
from serving.http.cohere_embeddings import cohere_routes
from serving.http.docs_page import docs_routes
from serving.http.door import Services
from serving.http.guard import LOOPBACK_NAMES, Guard
from serving.http.http_context import RefusedCallError
from serving.http.infinity_routes import infinity_routes
from serving.http.native_routes import native_routes
from serving.http.openai_chat import chat_routes
from serving.http.openai_embeddings import embeddings_routes
from serving.http.problems import HttpError, problem_response
from serving.http.system_routes import system_routes
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer


def http_application(
    services: Services,
    config: ServerConfig,
    sanitizer: ErrorSanitizer,
    more: Sequence[BaseRoute] = (),
) -> ASGIApp:
    """The application; `more` has routes of others, such as the studio's."""
    app = Starlette(
        routes=[
            *system_routes(services),
            *infinity_routes(services),
            *native_routes(services),
            *chat_routes(services),
            *embeddings_routes(services),
            *cohere_routes(services),
            *docs_routes(),
            *more,
        ],
    )
    app.router.redirect_slashes = False
    # Starlette's own outermost layer answers what nobody expected with a text of its own.
    app.middleware_stack = ExceptionMiddleware(
        app.router,
        handlers={
            HTTPException: _http_exception,
            RefusedCallError: _refused_call,
            ServingError: _serving_error,
        },
    )
    return Guard(app, sanitizer, _hosts(config), config.limits.metadata_bytes)


def _hosts(config: ServerConfig) -> frozenset[str] | None:
    """The names that a request may use for this server; None for all of them.

    Only this machine is what a page of another site could not reach without its own browser's help.
    """
    if not config.is_local:
        return None
    host = f"[{config.host}]" if ":" in config.host else config.host
    more = (name.strip().lower() for name in (config.http_hosts or "").split(","))
    return LOOPBACK_NAMES | {host.lower()} | {name for name in more if name}


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(ServingError(ErrorKind.NOT_FOUND, "there is no such path"))
    headers = error.headers or {}
    response = problem_response(HttpError(405, f"this path takes {headers.get('Allow', 'others')}"))
    response.headers.update(headers)
    return response


async def _refused_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedCallError)
    return problem_response(error.error)


async def _serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return problem_response(error)
