"""The store over HTTP: an ASGI application, read by pip, uv, curl and people.

    /                                              a page for people
    /probe.py                                      the probe
    /resolve, /{channel}/resolve                   POST a probe's JSON, get the index's URL
    /{channel}/{fingerprint}/simple/[{project}/]   the simple API, HTML or JSON
    /{channel}/{fingerprint}/links/                one page for --find-links
    /{channel}/{fingerprint}/files/{filename}      a wheel; beside it {filename}.metadata,
                                                   .intoto.jsonl (signed) and .cdx.json
    /{channel}/{fingerprint}/provenance/{filename} where it comes from, JSON
    /keys.json                                     the public keys of the store
    /openapi.json                                  all of this, for programs
    /healthz                                       200 when the catalogue answers

Every answer but a page or a file is JSON; an error is ``{"code", "message", "hint"}``. Who may ask
for what is in `store.access`.
"""

from __future__ import annotations

import importlib.resources
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial, wraps
from importlib.metadata import version
from typing import Final
from urllib.parse import quote

import anyio
from anyio import to_thread
from packaging.utils import NormalizedName, canonicalize_name
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from store import openapi, pages
from store.accounts import Accounts
from store.answers import Answer, Answers, Asking, is_worth_packing, pack
from store.attestation import SUFFIX_OF_STATEMENT, attest
from store.channel import RELEASE, UPSTREAM, Channel, parse_channel
from store.delivery import Asked, Delivery, has_already
from store.digest import Sha256, sha256_of
from store.environment import MAX_PROBE_JSON, parse_environment
from store.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    DisownedError,
    RangeError,
    UnknownFileError,
    UnknownIndexError,
    UnknownProjectError,
    UpstreamAwayError,
    WheelfarmError,
)
from store.explain import explain_file
from store.fingerprint import Fingerprint, parse_fingerprint
from store.front import ASKING, Front, Ready, Watch
from store.gate import Gate, caller_of, challenge, gated_route
from store.guard import Guard
from store.keyring import FOLDER as KEYS
from store.keyring import KeyRing
from store.negotiation import PLAIN, choose_coding, choose_form
from store.offer import MOST_WAITING, Offers, Puller
from store.publish import Store
from store.release import Release
from store.resolve import resolve
from store.sbom import MEDIA_TYPE as CYCLONEDX
from store.sbom import SUFFIX as SUFFIX_OF_SBOM
from store.sbom import sbom
from store.servings import Servings
from store.status import ProjectStatus
from store.user_agent import mismatches

_LOG: Final = logging.getLogger("wheelfarm.serve")
_ASK_AGAIN: Final = "no-cache"
_BODY_SECONDS: Final = 10
_RETRY_SECONDS: Final = 5
_FILES_FROM_PROJECT: Final = "../../files/"
_FILES_FROM_LINKS: Final = "../files/"
_METADATA: Final = ".metadata"
_STATEMENT: Final = "application/vnd.in-toto.bundle"


class _ChannelInPath(Convertor[str]):
    """``release``, ``upstream`` or ``dev/NAME``: a channel may hold one slash."""

    regex = "release|upstream|dev/[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("channel", _ChannelInPath())


def create_app(
    store: Store,
    delivery: Delivery = Delivery(),  # noqa: B008  # frozen
    gate: Gate | None = None,
    keys: KeyRing | None = None,
    puller: Puller | None = None,
) -> Starlette:
    """The application that serves `store`, its files as `delivery` says, to whom `gate` lets in:
    everybody who brings no token may read, unless it says otherwise.

    It signs with the key in use of `keys`; without, of the store's own folder. `puller` brings
    what an index upstream has, where the store's settings have it pulled through.
    """
    record, answers, watch = Servings(store.database), Answers(), Watch(store.database)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if puller is not None:  # who waits for it takes no thread from the others
            to_thread.current_default_thread_limiter().total_tokens += MOST_WAITING
        with record.written():
            yield

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=[Middleware(Guard), Middleware(Front, answers=answers, watch=watch)],
        exception_handlers={
            WheelfarmError: _answer_error,
            HTTPException: _answer_http_error,
            Exception: _answer_crash,
        },
    )
    app.router.redirect_slashes = False
    app.state.store = store
    app.state.delivery = delivery
    app.state.keys = keys or KeyRing(folder=store.root / KEYS)
    app.state.gate = gate or Gate(accounts=Accounts(store.database))
    app.state.servings = record
    app.state.openapi = partial(openapi.document, "wheelfarm", version("wheelfarm"))
    app.state.answers = answers
    app.state.ready = Ready(answers, watch) if watch.is_quick else None
    app.state.puller = puller
    return app


def _routes() -> list[Route]:
    index = "/{channel:channel}/{fingerprint}"
    return [
        gated_route("/", _home),
        gated_route("/healthz", _health),
        gated_route("/probe.py", _probe),
        gated_route("/keys.json", _keys),
        gated_route(openapi.PATH, _openapi),
        gated_route("/resolve", _resolve, method="POST"),
        gated_route("/{channel:channel}/resolve", _resolve, method="POST"),
        gated_route(f"{index}/simple/", _ready_or(_project_list)),
        gated_route(f"{index}/simple/{{project}}/", _ready_or(_project)),
        gated_route(f"{index}/links/", _ready_or(_links)),
        gated_route(f"{index}/files/{{filename}}", _ready_or(_file)),
        gated_route(f"{index}/provenance/{{filename}}", _provenance),
        gated_route(f"{index}/{{page:path}}", _add_slash),
    ]


def _home(request: Request) -> Response:
    covers = caller_of(request).grant.covers
    shown = [each for each in _store(request).catalogue.indexes() if covers(each.channel)]
    for_all = "authorization" not in request.headers  # a token sees what it covers
    return _page(request, pages.home_html(shown), pages.HTML, kept=for_all)


def _health(request: Request) -> Response:
    _store(request).database.check()
    return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})


def _probe(request: Request) -> Response:
    text = (importlib.resources.files("store") / "probe.py").read_text(encoding="utf-8")
    return _page(request, text, "text/x-python")


async def _resolve(request: Request) -> Response:
    channel = parse_channel(request.path_params.get("channel", RELEASE))
    environment = parse_environment(await _body(request))
    catalogue = _store(request).catalogue
    found = await run_in_threadpool(resolve, catalogue, channel, environment)
    covers = caller_of(request).grant.covers
    found = replace(found, elsewhere=tuple(each for each in found.elsewhere if covers(each)))
    status = 404 if found.fingerprint is None else 200
    return JSONResponse(found.to_json(str(request.base_url)), status_code=status)


def _project_list(request: Request) -> Response:
    channel, fingerprint = _index(request)
    form = _form(request)
    names = _store(request).catalogue.projects(channel, fingerprint)
    render = pages.project_list_json if form == pages.JSON_V1 else pages.project_list_html
    return _page(request, render(names), form, kept=True)


def _project(request: Request) -> Response:
    given = request.path_params["project"]
    project = canonicalize_name(given)
    if given != project:
        return _redirect(request, f"../{quote(project, safe='')}/")
    channel, fingerprint = _index(request)
    form = _form(request)
    catalogue = _store(request).catalogue
    status = catalogue.shown_status(channel, fingerprint, project)
    releases = catalogue.listing(channel, fingerprint, project)
    offers = _offers(request, project, status, there=bool(releases))
    listed = _together(releases, offers)
    # The page of a quarantined project says so, and is there: no client looks for it elsewhere.
    if not listed and status.status != "quarantined":
        raise _nothing_of(project, channel, fingerprint, offers)
    render = pages.project_json if form == pages.JSON_V1 else pages.project_html
    text = render(project, listed, _FILES_FROM_PROJECT, status)
    # What an index upstream has is not the catalogue's, and changes without a word.
    page = _page(request, text, form, kept=_puller(request, project) is None)
    if offers.away:
        page.headers["x-wheelfarm-upstream"] = "away"
    return page


def _nothing_of(
    project: str, channel: Channel, fingerprint: Fingerprint, offers: Offers
) -> WheelfarmError:
    if offers.away:
        return UpstreamAwayError(
            f"the index upstream does not answer, and nothing of {project[:80]!r} is here yet"
        )
    return UnknownProjectError(
        f"{fingerprint} in {channel} has no wheel of {project[:80]!r}",
        hint="build it for this target: `wheelfarm build`",
    )


def _offers(
    request: Request, project: NormalizedName, status: ProjectStatus, *, there: bool
) -> Offers:
    """What upstream has of the project beside what is here. Trouble with it takes nothing away
    from a page that has something without it."""
    puller = _puller(request, project)
    if puller is None or status.status == "quarantined":
        return Offers()
    _, fingerprint = _named_index(request)
    try:
        return puller.offers(fingerprint, project)
    except WheelfarmError as error:
        if not there:
            raise
        _LOG.warning("%s: %s", error.code, error.message)
        return Offers(away=error.transient)


def _puller(request: Request, project: NormalizedName) -> Puller | None:
    """Who brings the project to this index; None when it comes from a channel of one's own."""
    channel, fingerprint = _named_index(request)
    catalogue, puller = _store(request).catalogue, request.app.state.puller
    if puller is None or not catalogue.inheritance.pulls(channel):
        return None
    found: Puller = puller
    return found if catalogue.holder(channel, fingerprint, project) in {None, UPSTREAM} else None


def _together(releases: Sequence[Release], offers: Offers) -> list[pages.Listed]:
    """Both, each file once; a yank upstream counts for what came from there."""
    here = [
        replace(each, yanked=offers.yanked[each.filename])
        if each.yanked is None and each.filename in offers.yanked
        else each
        for each in releases
    ]
    names = {each.filename for each in here}
    more = [each for each in offers.offers if each.filename not in names]
    return sorted([*here, *more], key=lambda each: each.filename)


def _links(request: Request) -> Response:
    channel, fingerprint = _index(request)
    releases = _store(request).catalogue.listing(channel, fingerprint)
    title = f"Links for {fingerprint} in {channel}"
    text = pages.links_html(title, releases, _FILES_FROM_LINKS)
    return _page(request, text, pages.HTML, kept=True)


def _file(request: Request) -> Response:
    filename: str = request.path_params["filename"]
    for suffix, answer in _SIDECARS.items():
        if filename.endswith(suffix):
            return answer(request, _served(request, filename.removesuffix(suffix)))
    if filename.endswith(_METADATA) and (puller := _puller_of_file(request, filename)):
        _, fingerprint = _named_index(request)
        data = puller.metadata(fingerprint, filename.removesuffix(_METADATA))
        return _page(request, data, "text/plain")
    release = _served(request, filename.removesuffix(_METADATA))
    if filename.endswith(_METADATA):
        return _deliver(request, release.metadata_sha256, "text/plain; charset=utf-8")
    _, fingerprint = _named_index(request)
    # Under the channel that has it, so that whoever takes it back there sees whom it reached.
    note = partial(request.app.state.servings.note, release.channel, fingerprint, release.filename)
    if request.method == "GET":
        note()
    return _deliver(request, release.sha256, "application/octet-stream", note)


def _statement(request: Request, release: Release) -> Response:
    """Signed now, by the key in use: the same bytes until that is another."""
    signer = _key_ring(request).signer()
    record = _store(request).catalogue.provenance(release)
    return _page(request, attest(release, record, signer).decode(), _STATEMENT)


def _bill(request: Request, release: Release) -> Response:
    record = _store(request).catalogue.provenance(release)
    return _page(request, sbom(release, record).decode(), CYCLONEDX)


_SIDECARS: Final = {SUFFIX_OF_STATEMENT: _statement, SUFFIX_OF_SBOM: _bill}


def _keys(request: Request) -> Response:
    text = json.dumps(_key_ring(request).public().to_json(), indent=1) + "\n"
    return _page(request, text, "application/json")


def _openapi(request: Request) -> Response:
    return _page(request, json.dumps(request.app.state.openapi()), "application/json")


def _key_ring(request: Request) -> KeyRing:
    keys = request.app.state.keys
    assert isinstance(keys, KeyRing)
    return keys


def _deliver(
    request: Request, digest: Sha256, media: str, note: Callable[[], None] | None = None
) -> Response:
    """A blob; `note` is called for each time that it goes out again."""
    delivery = request.app.state.delivery
    assert isinstance(delivery, Delivery)
    asked = Asked(
        request=request,
        blobs=_store(request).blobs,
        digest=digest,
        media=media,
        headers=_mismatch(request),
    )
    if ASKING in request.scope and (ready := delivery.ready(asked, note)):
        _keep(request, ready)
        if not has_already(request, ready.etag):
            return _as_it_was(ready)
    return delivery.answer(asked)


def _provenance(request: Request) -> Response:
    release = _served(request, request.path_params["filename"])
    explanation = explain_file(_store(request), release)
    return _page(request, json.dumps(explanation.to_json()), "application/json")


def _add_slash(request: Request) -> Response:
    """A page's address without its last slash leads to the page; everything else is unknown."""
    page = request.path_params["page"]
    parts = page.split("/")
    if parts in (["simple"], ["links"]):
        return _redirect(request, f"{page}/")
    if len(parts) == 2 and parts[0] == "simple":
        return _redirect(request, f"{quote(canonicalize_name(parts[1]), safe='')}/")
    raise HTTPException(404)


def _redirect(request: Request, place: str) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=301, headers={"location": place + query})


def _store(request: Request) -> Store:
    store = request.app.state.store
    assert isinstance(store, Store)
    return store


def _index(request: Request) -> tuple[Channel, Fingerprint]:
    """The index that the path names. Raises MalformedError or UnknownIndexError."""
    channel, fingerprint = _named_index(request)
    if not _store(request).catalogue.has_index(channel, fingerprint):
        raise UnknownIndexError(
            f"the channel {channel} has no index for {fingerprint}",
            hint="/ lists every index; `wheelfarm index-url` says which one is yours",
        )
    return channel, fingerprint


def _named_index(request: Request) -> tuple[Channel, Fingerprint]:
    """The index that the path names, whether it is there or not. Raises MalformedError."""
    channel = parse_channel(request.path_params["channel"])
    return channel, parse_fingerprint(request.path_params["fingerprint"])


def _served(request: Request, filename: str) -> Release:
    channel, fingerprint = _named_index(request)
    catalogue = _store(request).catalogue
    release = catalogue.served_file(channel, fingerprint, filename)
    if release is None:
        if catalogue.was_disowned(channel, fingerprint, filename):
            raise DisownedError(
                f"{filename[:200]} was disowned: it must not be used any more",
                hint="remove it and what was cached of it; `wheelfarm explain` says why",
            )
        if puller := _puller_of_file(request, filename):
            return puller.file(fingerprint, filename)
        _index(request)  # is there such an index at all?
        raise UnknownFileError(
            f"{fingerprint} in {channel} has no file {filename[:80]!r}",
            hint="the links page of the index lists its files",
        )
    return release


def _puller_of_file(request: Request, filename: str) -> Puller | None:
    """Who brings a wheel that the index does not have yet."""
    channel, fingerprint = _named_index(request)
    catalogue, wheel = _store(request).catalogue, filename.removesuffix(_METADATA)
    if not catalogue.inheritance.pulls(channel) or not wheel.endswith(".whl"):
        return None
    if catalogue.served_file(channel, fingerprint, wheel) is not None:
        return None
    project = canonicalize_name(wheel.partition("-")[0])
    if catalogue.shown_status(channel, fingerprint, project).status == "quarantined":
        return None
    return _puller(request, project)


def _form(request: Request) -> str:
    accept = ",".join(request.headers.getlist("accept"))
    return choose_form(accept or None, request.query_params.get("format"))


def _page(request: Request, text: str | bytes, media: str, *, kept: bool = False) -> Response:
    """A page with its ETag, packed as the client takes it, or 304 when the client has it.

    The ETag is a strong one, so each coding has its own (RFC 9110, section 8.8.3). `kept`: it
    depends on nothing but the catalogue and what is asked, and may be kept.
    """
    body = text if isinstance(text, bytes) else text.encode("utf-8")
    coding = _coding(request) if is_worth_packing(body) else PLAIN
    packed = {} if coding == PLAIN else {"content-encoding": coding}
    suffix = "" if coding == PLAIN else f"-{coding}"
    headers = {
        "etag": f'"{sha256_of(body)[:32]}{suffix}"',
        "cache-control": _ASK_AGAIN,
        "vary": "Accept, Accept-Encoding",
        **_mismatch(request),
    }
    known = has_already(request, headers["etag"])
    if known and not kept:
        return Response(status_code=304, headers=headers)
    sent = pack(body, coding) if packed else body
    answer = Response(sent, media_type=media, headers={**headers, **packed})
    if kept:
        _keep(request, Answer(etag=headers["etag"], headers=tuple(answer.raw_headers), body=sent))
    return Response(status_code=304, headers=headers) if known else answer


def _ready_or(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """The handler, asked only when no answer is ready: for those who passed the gate."""

    @wraps(handler)
    def answer(request: Request) -> Response:
        asking: Asking | None = request.scope.get(ASKING)
        answers: Answers = request.app.state.answers
        ready = answers.find(asking.question, asking.generation) if asking else None
        if asking is None or ready is None:
            return handler(request)
        if ready.is_known_to(asking.question):
            return _as_it_was(ready, known=True)
        if ready.sent and request.method == "GET":
            ready.sent()
        return _as_it_was(ready)

    return answer


def _as_it_was(ready: Answer, *, known: bool = False) -> Response:
    answer = Response(status_code=304) if known else Response(ready.body)
    answer.raw_headers = list(ready.not_modified() if known else ready.headers)
    return answer


def _keep(request: Request, answer: Answer) -> None:
    if asking := request.scope.get(ASKING):
        request.app.state.answers.keep(asking, answer)


def _coding(request: Request) -> str:
    return choose_coding(",".join(request.headers.getlist("accept-encoding")) or None)


def _mismatch(request: Request) -> dict[str, str]:
    """A header, and a line in the log, for a client that says it is another than the index is for.

    It is told; what it gets stays the same: no wheel is chosen by User-Agent.
    """
    fingerprint = request.path_params.get("fingerprint")
    found = fingerprint and mismatches(request.headers.get("user-agent", ""), fingerprint)
    if not found:
        return {}
    _LOG.warning("a client of %s is another: %s", fingerprint, "; ".join(found))
    return {"x-wheelfarm-mismatch": "; ".join(found)}


async def _body(request: Request) -> bytes:
    """The whole body, within the limits of size and time."""
    body = bytearray()
    try:
        with anyio.fail_after(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_PROBE_JSON:
                    raise BodyTooLargeError(f"the body is longer than {MAX_PROBE_JSON} bytes")
    except TimeoutError as error:
        raise BodyTimeoutError(f"no whole body in {_BODY_SECONDS} s") from error
    return bytes(body)


def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WheelfarmError)
    if error.http_status >= 500:
        # Its words name folders of this machine: they are for the log.
        _LOG.error("%s: %s", error.code, error.message)
        return _trouble(error.code, error.http_status)
    headers = challenge(error)
    if isinstance(error, RangeError):
        headers["content-range"] = f"bytes */{error.size}"
    return JSONResponse(error.to_json(), status_code=error.http_status, headers=headers)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "bad-request")
    body = {
        "code": code,
        "message": f"{request.method[:20]} {request.url.path[:200]}: {error.detail}",
        "hint": "/ lists every index",
    }
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _answer_crash(_request: Request, _error: Exception) -> Response:
    return _trouble("farm-trouble", 500)


def _trouble(code: str, status: int) -> Response:
    message = "the store cannot answer now; the server's log says why"
    headers = {"retry-after": str(_RETRY_SECONDS)} if status == 503 else {}
    body = {"code": code, "message": message, "hint": None}
    return JSONResponse(body, status_code=status, headers=headers)
