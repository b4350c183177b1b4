"""File name, .dist-info folder and METADATA name one project and one version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel, names_agree
from store.verdict import Finding

CODE: Final = "identity"
TITLE: Final = "File name, .dist-info folder and METADATA agree on name and version"
_HINT: Final = "build the wheel again; a renamed wheel is not another project"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each place that names another project or version than the file name."""
    if not names_agree(wheel.dist_info, wheel.name, wheel.version):
        yield _disagrees(wheel, wheel.dist_info, {"folder": wheel.dist_info})
    name = str(wheel.raw_metadata.get("name", ""))
    version = str(wheel.raw_metadata.get("version", ""))
    if canonicalize_name(name) != wheel.name or not _same_version(version, wheel.version):
        evidence = {"name": name[:200], "version": version[:200]}
        yield _disagrees(wheel, f"{wheel.dist_info}/METADATA", evidence)


def _disagrees(wheel: OpenedWheel, member: str, evidence: dict[str, str]) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member,
        message=f"it is not {wheel.name} {wheel.version}, as the file name says",
        evidence=evidence,
        hint=_HINT,
    )


def _same_version(text: str, version: str) -> bool:
    try:
        return Version(text) == Version(version)
    except InvalidVersion:
        return False


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
