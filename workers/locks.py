"""A choice of wheels as the files that installers read: ``pylock.toml`` and hashed requirements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import tomli_w
from packaging.markers import Marker
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from store.channel import Channel
from store.fingerprint import Fingerprint
from store.resolve import index_url
from store.target import Target
from workers.choose import Chosen
from workers.markers import marker_environment

MADE_BY: Final = "wheelfarm"
_FIXED: Final = ("implementation_name", "platform_machine", "python_version", "sys_platform")
"""The marker variables that a fingerprint says for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The index that is locked, and the base URL of the server that installers ask for it."""

    server: str
    channel: Channel
    fingerprint: Fingerprint
    target: Target

    @property
    def url(self) -> str:
        """The index, as installers reach it; with a slash at its end."""
        return index_url(self.server, self.channel, self.fingerprint)


def pylock_toml(chosen: Iterable[Chosen], place: Place) -> str:
    """The lock of one environment (PEP 751): every wheel by its URL and its digest."""
    known = marker_environment(place.target)
    lock = Pylock(
        lock_version=Version("1.0"),
        environments=[_environment(known)],
        requires_python=SpecifierSet(f"=={known['python_version']}.*"),
        created_by=MADE_BY,
        packages=[_package(one, place.url) for one in chosen],
        tool={MADE_BY: {"channel": str(place.channel), "fingerprint": str(place.fingerprint)}},
    )
    return tomli_w.dumps(dict(lock.to_dict()))


def requirements_txt(chosen: Iterable[Chosen], place: Place) -> str:
    """The same choice as pip and uv read it with ``--require-hashes``, the index named in it."""
    lines = [f"# made by {MADE_BY} for {place.fingerprint} in {place.channel}"]
    lines.append(f"--index-url {place.url}simple/")
    for one in chosen:
        release = one.release
        lines.append(f"{release.name}=={release.version} \\\n    --hash=sha256:{release.sha256}")
    return "\n".join(lines) + "\n"


def _package(one: Chosen, url: str) -> Package:
    release = one.release
    wheel = PackageWheel(
        name=release.filename,
        url=f"{url}files/{quote(release.filename, safe='')}",
        size=release.size,
        upload_time=release.published_at,
        hashes={"sha256": release.sha256},
    )
    return Package(
        name=canonicalize_name(release.name),
        version=Version(release.version),
        requires_python=SpecifierSet(release.requires_python) if release.requires_python else None,
        dependencies=_dependencies(one.needs) or None,
        index=f"{url}simple/",
        wheels=[wheel],
    )


def _dependencies(needs: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in needs]


def _environment(known: Mapping[str, str]) -> Marker:
    return Marker(" and ".join(f'{name} == "{known[name]}"' for name in _FIXED))
