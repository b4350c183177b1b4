"""Every code signature is that of its bytes, and no arm64 slice for macOS is without one.

The kernel kills a process that runs an arm64 page without a right hash. On Intel it does so to a
process under the hardened runtime, and lets others go on; dyld refuses a signature that is
malformed or covers a part only, on both. Not one of some fifty published wheels was found wrong,
with SHA-1 and SHA-256 directories alike: what is wrong was changed after it was signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import CodeDirectory, MachSlice
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.wheel import LOADED_MACHO, Member, OpenedWheel
from store.digest import JSON
from store.tags import MacPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "code-signature"
TITLE: Final = "Every code signature is right, and every arm64 slice for macOS has one"


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag`, or nothing when macOS would not run a slice that it promises.

    On iOS whoever embeds a module in an app signs it, so nothing is asked there.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform):
        return holds(tag)
    bad = tuple(
        finding
        for member, file in wheel.mach
        for part in file.slices
        if part.arch in platform.archs and part.filetype in LOADED_MACHO
        for finding in _judge(member, part)
    )
    return Ruling(tags=frozenset(), findings=bad) if bad else holds(tag)


def _judge(member: Member, part: MachSlice) -> Iterator[Finding]:
    signature = part.signature
    if signature is None:
        if part.arch == "arm64":
            message = "the slice has no code signature, so macOS kills what loads it"
            yield _finding(member, part, message, {"signed": False})
    elif signature.fault is not None:
        message = f"dyld refuses the slice for its code signature: {signature.fault}"
        yield _finding(member, part, message, {"fault": signature.fault})
    else:
        for directory in signature.directories:
            if directory.wrong_pages or directory.wrong_slots:
                yield _changed(member, part, directory)


def _changed(member: Member, part: MachSlice, directory: CodeDirectory) -> Finding:
    pages = [*directory.wrong_pages]
    what = f"page {pages[0]} of {directory.pages}" if pages else directory.wrong_slots[0]
    evidence: dict[str, JSON] = {
        "directory": directory.hash,
        "page_size": directory.page_size,
        "wrong_pages": [*pages],
        "wrong_slots": [*directory.wrong_slots],
        "identifier": directory.identifier[:200],
    }
    message = f"the slice was changed after it was signed: the {directory.hash} of {what} differs"
    return _finding(member, part, message, evidence)


def _finding(
    member: Member, part: MachSlice, message: str, evidence: Mapping[str, JSON]
) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=part.arch,
        message=message,
        evidence=evidence,
        hint="sign it ad hoc (codesign -f -s -), and do not change it after that",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
