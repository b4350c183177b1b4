"""Strict reading of a JSON object that somebody else wrote.

Every error names the place (``interpreter.version``); a field that is missing, of another type,
or not known is an error, so that nothing is understood by half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn, TypeVar

from store.errors import MalformedError

T = TypeVar("T")
V = TypeVar("V")

MAX_STRING: Final = 4_096
MAX_ITEMS: Final = 100
LINE: Final = r"[^\x00-\x1f\x7f\ud800-\udfff]*"
"""Text without control characters or lone surrogates: safe to print, to log and to store."""


def read_object(text: str | bytes, *, limit: int) -> Mapping[str, object]:
    """The JSON object (RFC 8259) in `text`, which may be `limit` characters or bytes long.

    Raises MalformedError for what is longer, is no object, repeats a key, nests too deeply, or
    holds a number that is no integer.
    """
    if len(text) > limit:
        raise MalformedError(f"longer than {limit} bytes")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return value


class Fields:
    """The fields of one JSON object, each read once under its name.

    Every method raises MalformedError with the path of the field.
    """

    __slots__ = ("_inner", "_path", "_rest")

    def __init__(self, value: object, path: str = "") -> None:
        self._path = path
        if not isinstance(value, Mapping):
            raise MalformedError("not a JSON object", path=path)
        self._rest: dict[Any, object] = dict(value)
        self._inner: list[Fields] = []

    def text(self, name: str, pattern: str = LINE) -> str:
        """A string that the regular expression `pattern` matches as a whole."""
        value = self._take(name)
        if not isinstance(value, str):
            self._refuse(name, f"not a string: {value!r:.80}")
        if len(value) > MAX_STRING or not re.fullmatch(pattern, value, re.ASCII):
            self._refuse(name, f"not an acceptable value: {value!r:.80}")
        return value

    def choice(self, name: str, choices: Collection[str]) -> str:
        """One of `choices`."""
        value = self.text(name)
        if value not in choices:
            self._refuse(name, f"{value!r:.80} is none of {', '.join(sorted(choices))}")
        return value

    def number(self, name: str, choices: Collection[int]) -> int:
        """One of the integers of `choices`."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value not in choices:
            self._refuse(name, f"{value!r:.80} is none of {_told(choices)}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            self._refuse(name, f"neither true nor false: {value!r:.80}")
        return value

    def lines(self, name: str) -> tuple[str, ...]:
        """An array of strings without control characters."""
        value = self._take(name)
        if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
            self._refuse(name, f"not an array of at most {MAX_ITEMS} strings")
        items = Fields({str(index): item for index, item in enumerate(value)}, self._at(name))
        return tuple(items.text(str(index)) for index in range(len(value)))

    def parsed(self, name: str, parse: Callable[[str], T]) -> T:
        """What `parse` makes of a string; its MalformedError gets the field's path."""
        return self._under(name, parse, self.text(name))

    def parsed_object(self, name: str, parse: Callable[[object], T]) -> T:
        """What `parse` makes of any value; its MalformedError gets the field's path."""
        return self._under(name, parse, self._take(name))

    def inner(self, name: str) -> Fields:
        """An object inside this one; `done` covers it."""
        fields = Fields(self._take(name), self._at(name))
        self._inner.append(fields)
        return fields

    def absent(self, name: str) -> bool:
        """Whether the field is null; a null field is read by that."""
        if self._rest.get(name, ...) is None:
            del self._rest[name]
            return True
        return False

    def has(self, name: str) -> bool:
        """Whether the field is there and not yet read."""
        return name in self._rest

    def done(self) -> None:
        """Refuse every field that was not read, here and in the objects inside."""
        if self._rest:
            names = ", ".join(sorted(map(repr, self._rest)))[:200]
            raise MalformedError(f"unknown fields: {names}", path=self._path)
        for inner in self._inner:
            inner.done()

    def _under(self, name: str, parse: Callable[[V], T], value: V) -> T:
        try:
            return parse(value)
        except MalformedError as error:
            raise error.under(self._at(name)) from error

    def _take(self, name: str) -> object:
        if name not in self._rest:
            self._refuse(name, "is missing")
        return self._rest.pop(name)

    def _refuse(self, name: str, message: str) -> NoReturn:
        raise MalformedError(message, path=self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _told(choices: Collection[int]) -> str:
    if isinstance(choices, range):  # which may be long
        return f"{choices[0]} to {choices[-1]}"
    return ", ".join(map(str, sorted(choices)))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("an object has one key twice")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise MalformedError(f"{text[:40]} is no integer")
