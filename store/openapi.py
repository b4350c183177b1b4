"""The addresses of the store in OpenAPI's words, for programs that ask it for JSON. Pure.

A channel may be two segments of a path, which OpenAPI has no word for: such an address is there
under ``/release``, under ``/upstream`` and under ``/dev/{name}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from store.pages import HTML, HTML_V1, JSON_V1

VERSION: Final = "3.2.0"
PATH: Final = "/openapi.json"
"""Where the whole document is served."""

_CHANNELS: Final = ("/release", "/upstream", "/dev/{name}")
_INDEX: Final = "/{fingerprint}"
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"

SCHEMAS: Final[Mapping[str, Any]] = {
    "Trouble": {
        "type": "object",
        "required": ["code", "message", "hint"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "hint": {"type": ["string", "null"]},
        },
    },
    "Projects": {
        "description": "The projects of an index (PEP 691).",
        "type": "object",
        "required": ["meta", "projects"],
        "properties": {
            "meta": {"$ref": "#/components/schemas/Meta"},
            "projects": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            },
        },
    },
    "Project": {
        "description": "The files of a project (PEP 691, 700, 714, 792).",
        "type": "object",
        "required": ["meta", "name", "versions", "files"],
        "properties": {
            "meta": {"$ref": "#/components/schemas/Meta"},
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "files": {"type": "array", "items": {"$ref": "#/components/schemas/File"}},
            "project-status": {"type": "object"},
        },
    },
    "Meta": {
        "type": "object",
        "required": ["api-version"],
        "properties": {"api-version": {"type": "string"}},
    },
    "File": {
        "type": "object",
        "required": ["filename", "url", "hashes", "size", "upload-time", "core-metadata", "yanked"],
        "properties": {
            "filename": {"type": "string"},
            "url": {"type": "string"},
            "hashes": {"type": "object", "required": ["sha256"]},
            "size": {"type": "integer", "minimum": 0},
            "upload-time": {"type": "string"},
            "requires-python": {"type": ["string", "null"]},
            "core-metadata": {"type": "object", "required": ["sha256"]},
            "yanked": {"type": ["boolean", "string"]},
            "_wheelfarm": {
                "description": "Where the signed statement and the bill of materials are.",
                "type": "object",
                "required": ["statement", "sbom"],
                "properties": {"statement": {"type": "string"}, "sbom": {"type": "string"}},
            },
        },
    },
    "Index": {
        "description": "The index that is right for an environment.",
        "type": "object",
        "required": ["channel", "fingerprint", "index_url", "links_url"],
        "properties": {
            name: {"type": "string"}
            for name in ("channel", "fingerprint", "index_url", "links_url")
        },
    },
    "Keys": {
        "type": "object",
        "required": ["store", "keys"],
        "properties": {"store": {"type": "string"}, "keys": {"type": "array"}},
    },
    "Explanation": {"type": "object"},
}

_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "fingerprint": {"type": "string", "pattern": "^[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}$"},
    "project": {"type": "string", "minLength": 1, "maxLength": 200},
    "filename": {"type": "string", "minLength": 1, "maxLength": 255},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address: what it gives by media type, and what else may come of it."""

    path: str
    name: str
    summary: str
    gives: Mapping[str, Mapping[str, Any]]
    method: str = "get"
    others: tuple[str, ...] = ()
    takes: Mapping[str, Any] = field(default_factory=dict)
    in_channel: bool = False
    forms: bool = False


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _html(**more: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {HTML: _TEXT, HTML_V1: _TEXT, **more}


_PROBE: Final[Mapping[str, Any]] = {
    "description": "What probe.py printed.",
    "required": True,
    "content": {_JSON: {"schema": {"type": "object"}}},
}
_ADDRESSES: Final = (
    Address(path="/", name="home", summary="Every index, for people.", gives={HTML: _TEXT}),
    Address(
        path="/healthz", name="health", summary="Whether the catalogue answers.",
        gives={"text/plain": _TEXT},
    ),
    Address(
        path="/probe.py", name="probe", summary="The probe.", gives={"text/x-python": _TEXT}
    ),
    Address(
        path="/keys.json", name="keys", summary="The public keys of the store.",
        gives={_JSON: _schema("Keys")}, others=("304",),
    ),
    Address(
        path=PATH, name="openapi", summary="This document.", gives={_JSON: {"type": "object"}}
    ),
    Address(
        path="/resolve", name="resolve", summary="Which index is right for an environment.",
        method="post", takes=_PROBE, gives={_JSON: _schema("Index")},
    ),
    Address(
        path="/resolve", name="resolve_in", summary="The same, in one channel.", method="post",
        takes=_PROBE, gives={_JSON: _schema("Index")}, in_channel=True,
    ),
    Address(
        path=f"{_INDEX}/simple/", name="projects", summary="The projects of an index.",
        gives=_html(**{JSON_V1: _schema("Projects")}), in_channel=True, forms=True,
    ),
    Address(
        path=f"{_INDEX}/simple/{{project}}/", name="project", summary="The files of a project.",
        gives=_html(**{JSON_V1: _schema("Project")}), others=("301", "304"), in_channel=True,
        forms=True,
    ),
    Address(
        path=f"{_INDEX}/links/", name="links", summary="Every file on one page.",
        gives={HTML: _TEXT}, others=("304",), in_channel=True,
    ),
    Address(
        path=f"{_INDEX}/files/{{filename}}", name="file",
        summary="A wheel, or one of the files beside it.",
        gives={
            _BYTES: {}, "text/plain": _TEXT, "application/vnd.in-toto.bundle": {},
            "application/vnd.cyclonedx+json": {},
        },
        others=("206", "304", "307"), in_channel=True,
    ),
    Address(
        path=f"{_INDEX}/provenance/{{filename}}", name="provenance",
        summary="Where a wheel comes from, and whom it serves.",
        gives={_JSON: _schema("Explanation")}, others=("304",), in_channel=True,
    ),
)  # fmt: skip
_OTHERS: Final[Mapping[str, str]] = {
    "206": "A range of it.",
    "301": "It is there, under the normalised name.",
    "304": "The client has it already.",
    "307": "It is in the bucket.",
}


def store_paths() -> dict[str, Any]:
    """The paths of the store alone, as the document has them."""
    found: dict[str, Any] = {}
    for address in _ADDRESSES:
        for prefix in _CHANNELS if address.in_channel else ("",):
            path = prefix + address.path
            found.setdefault(path, {})[address.method] = _operation(address, prefix, path)
    return found


def document(title: str, version: str) -> dict[str, Any]:
    """The document of a server that serves a store alone."""
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": version},
        "paths": store_paths(),
        "components": {"schemas": dict(SCHEMAS)},
    }


def joined(api: Mapping[str, Any], root: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a server with a farm: `api` is that of the farm, whose paths are below
    `root`; `more` are further paths."""
    components = dict(api.get("components", {}))
    components["schemas"] = {**SCHEMAS, **components.get("schemas", {})}
    below = {f"{root}{path}": item for path, item in api["paths"].items()}
    return {**api, "paths": {**store_paths(), **more, **below}, "components": components}


def parameter(name: str) -> dict[str, Any]:
    """What stands for a segment of a path."""
    return {"name": name, "in": "path", "required": True, "schema": dict(_PARAMETERS[name])}


def troubles() -> dict[str, Any]:
    """The answers for what is wrong with a request, and for trouble with the store."""
    content = {_JSON: {"schema": _schema("Trouble")}}
    return {
        "4XX": {"description": "What was asked is wrong, or not there.", "content": content},
        "5XX": {"description": "Trouble with the store.", "content": content},
    }


def _operation(address: Address, prefix: str, path: str) -> dict[str, Any]:
    content = {media: {"schema": schema} for media, schema in address.gives.items()}
    others = {status: {"description": _OTHERS[status]} for status in address.others}
    suffix = prefix.strip("/").partition("/")[0]
    return {
        "operationId": f"{address.name}_{suffix}" if suffix else address.name,
        "summary": address.summary,
        "parameters": list(_parameters(address, path)),
        "responses": {
            "200": {"description": address.summary, "content": content},
            **others,
            **troubles(),
        },
        **({"requestBody": dict(address.takes)} if address.takes else {}),
    }


def _parameters(address: Address, path: str) -> Iterator[dict[str, Any]]:
    for name in _PARAMETERS:
        if f"{{{name}}}" in path:
            yield parameter(name)
    if address.forms:
        forms = {"type": "string", "enum": [HTML, HTML_V1, JSON_V1]}
        yield {"name": "format", "in": "query", "required": False, "schema": forms}
