"""The way back: a Target from the identity fields that the catalogue keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar, get_args

from store.digest import JSON, parse_sha256
from store.errors import MalformedError
from store.target import (
    Interpreter,
    InterpreterBuild,
    LibpythonLink,
    Target,
    identity_of,
    parse_baseline,
)

_T = TypeVar("_T")
_BUILD_PREFIX: Final = "build."


def target_from_identity(fields: Mapping[str, JSON]) -> Target:
    """The Target whose `identity_of` is `fields`. Raises MalformedError when there is none."""
    target = Target(
        interpreter=_interpreter(fields),
        build=_build(fields) if "build.libpython" in fields else None,
        arch=_field(fields, "arch", str),
        baseline=parse_baseline(_field(fields, "baseline", str)),
        isa=_optional_text(fields, "isa"),
    )
    if identity_of(target) != dict(fields):
        raise MalformedError("identity fields that no target has")
    return target


def without_build(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    """`fields` but for those that name one interpreter build."""
    return {key: value for key, value in fields.items() if not key.startswith(_BUILD_PREFIX)}


def differing_fields(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> list[str]:
    """The names of the fields in which two identities differ, sorted."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def _interpreter(fields: Mapping[str, JSON]) -> Interpreter:
    return Interpreter(
        implementation=_field(fields, "implementation", str),
        version=_field(fields, "python", str),
        soabi=_field(fields, "soabi", str),
        ext_suffix=_field(fields, "ext_suffix", str),
        debug=_field(fields, "debug", bool),
        free_threaded=_field(fields, "free_threaded", bool),
        pointer_bytes=_field(fields, "pointer_bytes", int),
    )


def _build(fields: Mapping[str, JSON]) -> InterpreterBuild:
    link = _field(fields, "build.libpython", str)
    details = _optional_text(fields, "build.details_sha256")
    if link not in get_args(LibpythonLink):
        raise MalformedError(f"libpython is not linked as {link[:80]!r}")
    return InterpreterBuild(
        libpython=link,  # type: ignore[arg-type]
        libpython_name=_optional_text(fields, "build.libpython_name"),
        libpython_resolves=_field(fields, "build.libpython_resolves", bool),
        config_sha256=parse_sha256(_field(fields, "build.config_sha256", str)),
        build_details_sha256=None if details is None else parse_sha256(details),
    )


def _field(fields: Mapping[str, JSON], name: str, kind: type[_T]) -> _T:
    value = fields.get(name)
    if type(value) is not kind:
        raise MalformedError(f"not a {kind.__name__}: {str(value)[:80]!r}", path=name)
    return value


def _optional_text(fields: Mapping[str, JSON], name: str) -> str | None:
    return None if fields.get(name) is None else _field(fields, name, str)
