"""Build requirements, resolved to exact files.

uv resolves; the farm then picks the one file of each version that this interpreter would be
given, and names it by its SHA-256. Only wheels are taken: an sdist among the requirements would
be built by uv on the way, outside of the sandbox and without a BuildKey.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.pylock import Package, PackageWheel, Pylock, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.failure import StepFailed
from builder.isolation import Uv
from builder.toolchain.python_facts import PythonFacts
from store.digest import Sha256, parse_sha256
from store.errors import MalformedError
from store.provenance import Pin

_MOST_REQUIREMENTS: Final = 500
_LONGEST_REQUIREMENT: Final = 2000
_LARGEST_LOCK: Final = 32 << 20
_NO_WHEEL: Final = ("no usable wheels", "building from source is disabled", "has no wheels with")


def resolve(
    requirements: Sequence[str],
    constraints: Sequence[str],
    facts: PythonFacts,
    uv: Uv,
    python: Path,
) -> tuple[Pin, ...]:
    """The exact files that meet `requirements` under `constraints`, by name.

    Raises StepFailed: `build` for what cannot be read or met, `policy` for what may not be used (a
    URL, a version without a wheel), `infrastructure` when the index does not answer.
    """
    wanted = readable(requirements, facts)
    if not wanted:
        return ()
    source, bounds, lock = (uv.scratch / name for name in ("build.in", "bounds.in", "pylock.toml"))
    source.write_text("".join(f"{requirement}\n" for requirement in wanted))
    bounds.write_text("".join(f"{line}\n" for line in _constraints(constraints)))
    ended = uv.run(
        "pip", "compile", "--quiet", "--format", "pylock.toml", "--python", str(python),
        "--no-build", "--no-header", "--constraints", str(bounds), "--output-file", str(lock),
        str(source), *uv.with_index(),
    )  # fmt: skip
    if not ended.ok:
        raise _unresolved(uv.sentence(ended))
    return tuple(_pins(lock, facts))


def readable(requirements: Iterable[str], facts: PythonFacts) -> list[Requirement]:
    """The requirements whose marker holds for this interpreter, sorted, each once.

    Raises StepFailed for one that is no requirement (PEP 508) or that names a URL.
    """
    parsed = {str(one): one for text in _bounded(requirements) if (one := _parse(text))}
    return [one for _text, one in sorted(parsed.items()) if _applies(one, facts.markers)]


def unmet(requirements: Iterable[Requirement], pins: Iterable[Pin]) -> list[Requirement]:
    """The requirements that no pin meets, by name and version."""
    versions = {pin.name: pin.version for pin in pins}
    return [
        one
        for one in requirements
        if (version := versions.get(canonicalize_name(one.name))) is None
        or not one.specifier.contains(version, prereleases=True)
    ]


def _bounded(requirements: Iterable[str]) -> list[str]:
    listed = list(requirements)
    if len(listed) > _MOST_REQUIREMENTS:
        raise StepFailed("build", f"it asks for more than {_MOST_REQUIREMENTS} build requirements")
    return listed


def _parse(text: str) -> Requirement:
    if len(text) > _LONGEST_REQUIREMENT:
        raise StepFailed("build", "one of its build requirements is too long to be one")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise StepFailed("build", f"not a build requirement: {text[:200]!a}") from error
    if requirement.url:
        raise StepFailed(
            "policy", f"the build requirement {requirement.name!r} names a URL, not a version",
            hint="set replaced requirements in its recipe: build requirements come from the index",
        )  # fmt: skip
    return requirement


def _applies(requirement: Requirement, markers: Mapping[str, str]) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**markers, "extra": ""})


def _constraints(lines: Sequence[str]) -> list[str]:
    # Constraints are a person's, from the Recipe; a line such as `-r file` is still none.
    return [str(_parse(line)) for line in lines]


def _unresolved(said: str) -> StepFailed:
    if any(words in said for words in _NO_WHEEL):
        return StepFailed(
            "policy",
            "a build requirement has no wheel for this interpreter, and is not built on the way",
            first_error=said,
            hint="build that requirement first and use an index that has it",
        )
    return StepFailed("build", "its build requirements cannot be met", first_error=said)


def _pins(lock: Path, facts: PythonFacts) -> Iterable[Pin]:
    rank = {tag: place for place, tag in enumerate(_tags(facts))}
    for package in _packages(lock):
        wheel = _best_wheel(package, rank)
        yield Pin(
            name=package.name,
            version=str(package.version),
            filename=wheel.filename,
            sha256=_sha256_of(package, wheel),
        )


def _packages(lock: Path) -> Sequence[Package]:
    if lock.stat().st_size > _LARGEST_LOCK:
        raise StepFailed("infrastructure", "the resolution of its build requirements is too large")
    try:
        return Pylock.from_dict(tomllib.loads(lock.read_text("utf-8"))).packages
    except (PylockValidationError, ValueError) as error:
        raise StepFailed(
            "infrastructure", f"uv wrote a resolution that cannot be read: {str(error)[:200]}"
        ) from error


def _best_wheel(package: Package, rank: Mapping[Tag, int]) -> PackageWheel:
    # uv has left only wheels that this interpreter takes; the rank says which one it prefers. A
    # tag without a rank (an interpreter for another libc, say) comes last.
    wheels = list(package.wheels or ())
    if not wheels:
        raise _unresolved(f"{package.name} {package.version} has no usable wheels")

    def place(wheel: PackageWheel) -> tuple[int, str]:
        tags = parse_wheel_filename(wheel.filename)[3]
        return min(rank.get(tag, len(rank)) for tag in tags), wheel.filename

    return min(wheels, key=place)


def _sha256_of(package: Package, wheel: PackageWheel) -> Sha256:
    try:
        return parse_sha256(wheel.hashes.get("sha256", ""))
    except MalformedError as error:
        raise StepFailed(
            "policy", f"the index gives no SHA-256 for {package.name} {package.version}"
        ) from error


def _tags(facts: PythonFacts) -> Iterable[Tag]:
    major, minor = (int(part) for part in facts.markers["python_version"].split("."))
    platforms = list(platform_tags())
    abi = f"cp{major}{minor}{facts.abiflags}"
    yield from cpython_tags((major, minor), [abi], platforms)
    yield from compatible_tags((major, minor), f"cp{major}{minor}", platforms)
