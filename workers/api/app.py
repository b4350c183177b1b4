"""The farm's HTTP API as an ASGI application of its own, and beside the store's pages.

    /api/openapi.json   what can be asked, and every answer's form
    /metrics            the same figures as /api/queues, for Prometheus

The routes are in `workers.api.routes`. Every error is ``{"code", "message", "hint"}``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount

from store import openapi
from store.delivery import Delivery
from store.errors import MalformedError, WheelfarmError
from store.gate import Gate, challenge, gated_route
from store.keyring import KeyRing
from store.offer import Puller
from store.server import create_app
from workers.api.access import ROOT
from workers.api.bodies import BoundedBody
from workers.api.legacy import new_limiter, upload_routes
from workers.api.metrics import metrics_text
from workers.api.routes import router
from workers.api.shared import Shared
from workers.api.streams import LOOK_SECONDS
from workers.farm import listing
from workers.farm.desk import FarmDesk

if TYPE_CHECKING:
    from workers.api.oidc import Minter

_LOG: Final = logging.getLogger("wheelfarm.serve")
_MOST_ADOPTING: Final = 2
_MOST_MINTING: Final = 4
_CODES: Final = {404: "not-found", 405: "method-not-allowed"}


def create_server(
    desk: FarmDesk,
    delivery: Delivery,
    gate: Gate,
    minter: Minter | None = None,
    keys: KeyRing | None = None,
    *,
    puller: Puller | None = None,
) -> Starlette:
    """The store's pages, the farm's API under ``/api`` and ``/metrics``, in one application.

    `minter` gives tokens to the jobs of CI systems, where the settings trust any; `puller` brings
    what an index upstream has.
    """
    app = create_app(desk.farm.store, delivery, gate, keys, puller)
    api = create_api(desk, gate, minter)
    own = [gated_route("/metrics", _metrics), Mount(ROOT, api), *upload_routes()]
    app.router.routes[:0] = own
    app.state.openapi = lambda: openapi.joined(api.openapi(), ROOT, _MORE_PATHS)
    app.state.desk = desk
    app.state.uploading = new_limiter()
    return app


def create_api(desk: FarmDesk, gate: Gate, minter: Minter | None) -> FastAPI:
    """The API alone."""
    api = FastAPI(
        title="wheelfarm",
        summary="Submit builds to a farm and follow them.",
        version=version("wheelfarm"),
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(BoundedBody)],
    )
    api.openapi_version = openapi.VERSION  # the first that describes streams of events
    for kind, answer in _ANSWERS.items():
        api.add_exception_handler(kind, answer)
    api.include_router(router)
    api.state.desk = desk
    api.state.gate = gate
    api.state.minter = minter
    api.state.adopting = CapacityLimiter(_MOST_ADOPTING)
    api.state.minting = CapacityLimiter(_MOST_MINTING)
    api.state.shared = Shared(LOOK_SECONDS)
    return api


def _metrics(request: Request) -> Response:
    desk = request.app.state.desk
    assert isinstance(desk, FarmDesk)
    jobs = listing.counts_by_state(desk.farm.store.database)
    text = metrics_text(desk.queues(), desk.workers().workers, jobs)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _upload_path(name: str, *parameters: Mapping[str, Any]) -> dict[str, Any]:
    text, file = {"type": "string"}, {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {":action": text, "content": file}}
    return {
        "post": {
            "operationId": name,
            "summary": "Upload a wheel or an sdist, as twine and `uv publish` do.",
            "parameters": list(parameters),
            "requestBody": {"content": {"multipart/form-data": {"schema": form}}},
            "responses": {"200": {"description": "It is in."}, **openapi.troubles()},
        }
    }


_MORE_PATHS: Final[Mapping[str, Any]] = {
    "/legacy/": _upload_path("upload"),
    "/release/legacy/": _upload_path("upload_release"),
    "/dev/{name}/legacy/": _upload_path("upload_dev", openapi.parameter("name")),
    f"{ROOT}/openapi.json": {
        "get": {
            "operationId": "api_openapi",
            "summary": "The part of this document that is about the farm.",
            "responses": {
                "200": {
                    "description": "A document.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                **openapi.troubles(),
            },
        }
    },
    "/metrics": {
        "get": {
            "operationId": "metrics",
            "summary": "The figures of /api/queues, for Prometheus.",
            "responses": {
                "200": {
                    "description": "Figures.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                **openapi.troubles(),
            },
        }
    },
}
"""What this application answers beside the store's pages and the API."""


def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WheelfarmError)
    if error.http_status >= 500:
        # Its words name folders of this machine: they are for the log.
        _LOG.error("%s: %s", error.code, error.message)
        return _trouble(error.code, error.http_status)
    return JSONResponse(error.to_json(), error.http_status, headers=challenge(error))


def _answer_malformed(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a request, and where it is."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:200]
    malformed = MalformedError(str(first["msg"])[:300], path=place, hint="see /api/openapi.json")
    return _answer_error(request, malformed)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, WheelfarmError):
        return _answer_error(request, error.__cause__)
    body = {
        "code": _CODES.get(error.status_code, "bad-request"),
        "message": f"{request.method[:20]} {request.url.path[:200]}: {error.detail}",
        "hint": "/api/openapi.json says what can be asked",
    }
    return JSONResponse(body, error.status_code, headers=error.headers)


def _answer_crash(_request: Request, _error: Exception) -> Response:
    return _trouble("farm-trouble")


def _trouble(code: str, status: int = 500) -> Response:
    message = "the farm cannot answer now; the server's log says why"
    return JSONResponse({"code": code, "message": message, "hint": None}, status)


_ANSWERS: Final[Mapping[type[Exception], Callable[[Request, Exception], Response]]] = {
    WheelfarmError: _answer_error,
    RequestValidationError: _answer_malformed,
    HTTPException: _answer_http_error,
    Exception: _answer_crash,
}
