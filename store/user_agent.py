"""What an installer says of itself in its User-Agent, held against the index that it asks.

pip and uv send a JSON object after their name. It is believed for a warning, for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from store.errors import MalformedError
from store.fields import read_object
from store.fingerprint import Fingerprint
from store.tags import MacPlatform, parse_platform, python_tag_of

_LONGEST: Final = 4_000
_SAFE: Final = re.compile(r"[A-Za-z0-9._+-]{1,40}")
_IMPLEMENTATIONS: Final = {"cp": "cpython", "pp": "pypy"}
# One machine has different names in different systems.
_SAME_MACHINE: Final = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}


def mismatches(user_agent: str, fingerprint: Fingerprint) -> list[str]:
    """Where the client differs from the fingerprint: ``python: wanted 3.11, found 3.12``.

    Empty when nothing differs, or the client says nothing. Every value is short, printable ASCII.
    """
    facts = _facts(user_agent)
    if not facts:
        return []
    return [
        f"{name}: wanted {'/'.join(sorted(wanted))}, found {found}"
        for name, wanted, found in _compared(facts, fingerprint)
        if found is not None and found not in wanted
    ]


def _compared(
    facts: dict[str, object], fingerprint: Fingerprint
) -> Iterator[tuple[str, set[str], str | None]]:
    abi, platform_text, _ = fingerprint.split("-")
    python, platform = python_tag_of(abi), parse_platform(platform_text)
    system = "darwin" if isinstance(platform, MacPlatform) else "linux"
    version = re.match(r"[0-9]+\.[0-9]+", _text(facts.get("python")) or "")
    yield "python", {f"{python[2]}.{python[3:]}"}, version[0] if version else None
    implementation = _lower(_inner(facts, "implementation"))
    yield "implementation", {_IMPLEMENTATIONS[python[:2]]}, implementation
    yield "system", {system}, _lower(_inner(facts, "system"))
    yield "machine", {_machine(arch) for arch in platform.archs}, _cpu(facts)


def _facts(user_agent: str) -> dict[str, object]:
    _, brace, rest = user_agent.partition("{")
    if not brace or len(rest) > _LONGEST:
        return {}
    try:
        return dict(read_object(brace + rest, limit=_LONGEST + 1))
    except MalformedError:
        return {}


def _inner(facts: dict[str, object], name: str) -> str | None:
    inner = facts.get(name)
    return _text(inner.get("name")) if isinstance(inner, dict) else None


def _cpu(facts: dict[str, object]) -> str | None:
    cpu = _lower(_text(facts.get("cpu")))
    return None if cpu is None else _machine(cpu)


def _machine(name: str) -> str:
    return _SAME_MACHINE.get(name, name)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and _SAFE.fullmatch(value) else None
