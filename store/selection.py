"""Which releases an order means: conditions that must all hold, over rows and provenance.

Most are asked of the tables. What a build was made of and on is asked of its provenance: the text
that the catalogue keeps is searched for the value first, then read where it occurs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Final, TypeVar

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, Connection, Select, Text, and_, or_, select, type_coerce

from store.channel import parse_channel
from store.digest import JSON, digest_of, parse_sha256
from store.errors import MalformedError
from store.fields import LINE, Fields
from store.fingerprint import Fingerprint, parse_fingerprint
from store.schema import (
    files,
    job_events,
    jobs,
    release_requirements,
    releases,
    sources,
    targets,
)

T = TypeVar("T")

_SHORTEST_PART: Final = 3
_AT_ONCE: Final = 500
_MOST_FIELDS: Final = 20
_NARROWING: Final = frozenset({"channel", "fingerprint", "linked"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions on releases, all of which must hold; None and the empty ones do not count.

    `file` is a wheel's name or digest, `package` ``NAME`` or ``NAME==VERSION``, `requirement` a
    build requirement by digest or ``NAME==VERSION``, `sdist` a digest or a file name. `worker` is
    the worker that built it. `toolchain` is the digest of a toolchain's identity, or text in it.
    `interpreter` is a fingerprint or a part of one, or the value of one of its ``build.*`` fields:
    the name of a libpython, a digest; `linked` leaves only wheels that are bound to their
    interpreter build. `fields` are fields of the BuildKey by dotted path (``recipe.env.CFLAGS``,
    ``epoch``), each with its value or the digest of what is there.
    """

    channel: str | None = None
    fingerprint: str | None = None
    file: str | None = None
    package: str | None = None
    build_key: str | None = None
    requirement: str | None = None
    worker: str | None = None
    toolchain: str | None = None
    interpreter: str | None = None
    linked: bool = False
    sdist: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """The conditions that count."""
        said: dict[str, JSON] = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name != "fields" and getattr(self, each.name)
        }
        return said | ({"fields": dict(self.fields)} if self.fields else {})

    def __str__(self) -> str:
        """For people: ``package numpy==2.0, channel release``."""
        plain = [f"{name} {value}" for name, value in self.to_json().items() if name != "fields"]
        return ", ".join([*plain, *(f"{path}={value}" for path, value in self.fields.items())])


def parse_selection(said: Mapping[str, object]) -> Selection:
    """The selection that is said in JSON, as `Selection.to_json` writes it.

    Raises MalformedError with the name of the field that is none, and for no condition at all:
    nothing is never everything. A channel, a fingerprint and `linked` narrow others only.
    """
    read = Fields(said)
    texts = {name: read.text(name, LINE) for name in _TEXTS if read.has(name)}
    linked = read.flag("linked") if read.has("linked") else False
    paths = read.parsed_object("fields", _paths) if read.has("fields") else {}
    read.done()
    given = {name: _parsed(name, text) for name, text in texts.items()}
    selection = Selection(**given, linked=linked, fields=paths)
    if not selection.to_json().keys() - _NARROWING:
        raise MalformedError(
            "nothing is selected", hint="name a file, a package, a worker, …; not only where"
        )
    return selection


def matching(connection: Connection, selection: Selection) -> list[int]:
    """The numbers of all releases, standing or not, that the selection means; sorted."""
    query = _rows(connection, selection)
    tests = _tests(connection, selection)
    if not tests:
        return [int(row.id) for row in connection.execute(query)]
    found = []
    for release_id, provenance in _with_provenance(connection, query):
        if all(test(release_id, provenance) for test in tests):
            found.append(release_id)
    return found


_TEXTS: Final = tuple(
    each.name for each in fields(Selection) if each.name not in {"fields", "linked"}
)


def _parsed(name: str, text: str) -> str:
    try:
        return _PARSERS.get(name, _some_text)(text)
    except MalformedError as error:
        raise error.under(name) from error


def _some_text(text: str) -> str:
    if not text.strip():
        raise MalformedError("is empty")
    return text


def _part(text: str) -> str:
    if len(text) < _SHORTEST_PART:
        raise MalformedError(f"shorter than {_SHORTEST_PART} characters: too much has it")
    return text


def _package(text: str) -> str:
    name, equals, version = text.partition("==")
    if not name.strip() or (equals and not version.strip()):
        raise MalformedError(f"not a package: {text[:80]!r}", hint="write NAME or NAME==VERSION")
    return f"{canonicalize_name(name.strip())}{equals}{version.strip()}"


def _digest_or_file(text: str) -> str:
    return text if text.endswith((".whl", ".tar.gz", ".zip")) else parse_sha256(text)


def _digest_or_pin(text: str) -> str:
    return _package(text) if "==" in text else parse_sha256(text)


_PARSERS: Final = {
    "channel": parse_channel,
    "fingerprint": parse_fingerprint,
    "file": _digest_or_file,
    "package": _package,
    "build_key": parse_sha256,
    "requirement": _digest_or_pin,
    "toolchain": _part,
    "interpreter": _part,
    "sdist": _digest_or_file,
}


def _paths(value: object) -> dict[str, str]:
    read = Fields(value)
    names = list(value) if isinstance(value, Mapping) else []
    if len(names) > _MOST_FIELDS:
        raise MalformedError(f"more than {_MOST_FIELDS} fields")
    return {str(name): read.text(name) for name in names}


def _rows(connection: Connection, chosen: Selection) -> Select[tuple[int]]:
    """The numbers of the releases that meet the conditions on tables."""
    query = select(releases.c.id).join_from(releases, files).join(sources)
    for name, condition in _CONDITIONS.items():
        if text := getattr(chosen, name):
            query = query.where(condition(connection, text))
    for text in (chosen.toolchain, *chosen.fields.values()):
        if text and not _is_digest(text):  # a digest may be that of a whole branch
            query = query.where(_mentions(text))
    return query.order_by(releases.c.id)


def _named(name: Any, version: Any, label: str) -> ColumnElement[bool]:
    project, _, exact = label.partition("==")
    wanted: ColumnElement[bool] = name == project
    return and_(wanted, version == exact) if exact else wanted


def _made_with(requirement: str) -> Select[tuple[int]]:
    columns = release_requirements.c
    if "==" in requirement:
        wanted = _named(columns.name, columns.version, requirement)
    else:
        wanted = columns.sha256 == requirement
    return select(columns.release_id).where(wanted)


def _mentions(text: str) -> ColumnElement[bool]:
    """Whether the provenance holds `text` somewhere, as its JSON has it."""
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    return type_coerce(releases.c.provenance, Text).contains(written, autoescape=True)


def _fingerprints(connection: Connection, text: str) -> list[Fingerprint]:
    """The targets whose fingerprint holds `text`, or whose interpreter build has it as a value."""
    found = connection.execute(select(targets)).all()
    return [row.fingerprint for row in found if _is_build(row.fingerprint, row.identity, text)]


def _is_build(fingerprint: str, identity: Mapping[str, JSON], text: str) -> bool:
    built = [
        value
        for name, value in identity.items()
        if name.startswith("build.") and isinstance(value, str)
    ]
    return text in fingerprint or any(text in {value, value.rpartition("/")[2]} for value in built)


_CONDITIONS: Final[Mapping[str, Callable[[Connection, Any], ColumnElement[bool]]]] = {
    "channel": lambda _, text: releases.c.channel == text,
    "fingerprint": lambda _, text: releases.c.fingerprint == text,
    "file": lambda _, text: or_(files.c.filename == text, files.c.sha256 == text),
    "package": lambda _, text: _named(files.c.name, files.c.version, text),
    "build_key": lambda _, text: releases.c.build_key == text,
    "requirement": lambda _, text: releases.c.id.in_(_made_with(text)),
    "interpreter": lambda asked, text: releases.c.fingerprint.in_(_fingerprints(asked, text)),
    "linked": lambda _, __: files.c.interpreter_bound != [],
    "sdist": lambda _, text: or_(sources.c.filename == text, sources.c.sha256 == text),
}


def _tests(connection: Connection, chosen: Selection) -> list[Any]:
    """The conditions on a release's number and provenance."""
    tests: list[Any] = []
    if chosen.worker:
        told = _jobs_of(connection, chosen.worker)
        tests.append(lambda _id, record: _builder(record, told) == chosen.worker)
    if chosen.toolchain:
        tests.append(lambda _id, record: _has(record["inputs"]["toolchain"], chosen.toolchain))
    for path, value in chosen.fields.items():
        tests.append(lambda _id, record, p=path, v=value: _equals(record["inputs"], p, v))
    return tests


def _jobs_of(connection: Connection, worker: str) -> dict[str, str]:
    """The BuildKeys that a worker reported as built: what tells of releases from before the
    provenance named the worker."""
    query = (
        select(jobs.c.build_key)
        .join_from(job_events, jobs)
        .where(job_events.c.kind == "succeed", job_events.c.worker == worker)
    )
    return {key: worker for key in connection.execute(query).scalars() if key}


def _builder(record: Mapping[str, Any], told: Mapping[str, str]) -> str | None:
    named = record["environment"].get("worker")
    return named if named is not None else told.get(record["build_key"])


def _has(branch: JSON, text: str | None) -> bool:
    """Whether the digest of `branch` is `text`, or one of its leaves holds it."""
    return digest_of(branch) == text or any(str(text) in leaf for leaf in _leaves(branch))


def _leaves(branch: JSON) -> Iterator[str]:
    if isinstance(branch, str):
        yield branch
    elif isinstance(branch, Mapping):
        for inner in branch.values():
            yield from _leaves(inner)


def _equals(inputs: JSON, path: str, value: str) -> bool:
    """Whether something at `path` is `value`, or has that digest."""
    return any(
        value in {found if isinstance(found, str) else json.dumps(found), _digest(found)}
        for found in _at(inputs, path)
    )


def _digest(branch: JSON) -> str | None:
    return digest_of(branch) if isinstance(branch, Mapping) else None


def _at(branch: JSON, path: str) -> Iterator[JSON]:
    """What is at a dotted path; keys may hold dots themselves, and a list is all of its items."""
    if isinstance(branch, list):
        for item in branch:
            yield from _at(item, path)
    elif isinstance(branch, Mapping):
        for key, inner in branch.items():
            if key == path:
                yield inner
            elif path.startswith(f"{key}."):
                yield from _at(inner, path[len(key) + 1 :])


def _with_provenance(
    connection: Connection, query: Select[tuple[int]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    numbers = connection.execute(query).scalars().all()
    for some in in_parts(numbers):
        rows = select(releases.c.id, releases.c.provenance).where(releases.c.id.in_(some))
        yield from (
            (row.id, row.provenance) for row in connection.execute(rows.order_by(releases.c.id))
        )


def in_parts(items: Iterable[T], most: int = _AT_ONCE) -> Iterator[list[T]]:
    """The items, some hundreds at a time: as many as one statement may name."""
    rest = iter(items)
    while some := list(islice(rest, most)):
        yield some


def _is_digest(text: str) -> bool:
    try:
        return parse_sha256(text) == text
    except MalformedError:
        return False
