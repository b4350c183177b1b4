"""Every check, in the order in which they are asked.

A new check is one file here, one line in CHECKS, one test and one page in docs/checks. Checks that
narrow a tag come in this order: what the tag means at all (any-wheel), who imports it, which
architectures, which OS, what it links, who built it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from builder.checks import (
    abi3_symbols,
    android_api,
    android_linkage,
    any_wheel,
    built_by,
    code_signature,
    elf_architecture,
    elf_linkage,
    elf_rpath,
    entry_point,
    executable_stack,
    expected_modules,
    file_type,
    identity,
    import_suffix,
    isa_level,
    libc_floor,
    link_symbols,
    macho_architecture,
    macho_linkage,
    malformed_binary,
    minimum_os,
    musl_symbols,
    page_alignment,
    path_collision,
    purelib_binary,
    record,
    root_is_purelib,
    serves_target,
    wheel_tags,
    wheel_version,
    windows_architecture,
    windows_binary,
    windows_linkage,
)
from builder.checks.check import Check

CHECKS: Final[tuple[Check, ...]] = (
    identity.CHECK,
    wheel_version.CHECK,
    wheel_tags.CHECK,
    record.CHECK,
    path_collision.CHECK,
    malformed_binary.CHECK,
    file_type.CHECK,
    windows_binary.CHECK,
    any_wheel.CHECK,
    macho_architecture.CHECK,
    elf_architecture.CHECK,
    isa_level.CHECK,
    windows_architecture.CHECK,
    entry_point.CHECK,
    import_suffix.CHECK,
    abi3_symbols.CHECK,
    minimum_os.CHECK,
    android_api.CHECK,
    android_linkage.CHECK,
    page_alignment.CHECK,
    elf_linkage.CHECK,
    elf_rpath.CHECK,
    libc_floor.CHECK,
    musl_symbols.CHECK,
    windows_linkage.CHECK,
    macho_linkage.CHECK,
    link_symbols.CHECK,
    code_signature.CHECK,
    executable_stack.CHECK,
    purelib_binary.CHECK,
    expected_modules.CHECK,
    built_by.CHECK,
    root_is_purelib.CHECK,
    serves_target.CHECK,
)

OPENING: Final[Mapping[str, str]] = {
    "readable-file": "The file is a plain file that can be read",
    "wheel-filename": "The file's name is that of a wheel",
    "archive-safety": "The archive shows every reader the same files, and nothing unsafe",
    "dist-info": "There is one .dist-info folder with METADATA, WHEEL and RECORD",
}
"""Rules without which there is no wheel to check; `builder.wheel` holds to them while it opens."""

CRASHED: Final = "check-crashed"
INEXPRESSIBLE: Final = "tag-set"
MISNAMED: Final = "content-name"
JUDGING: Final[Mapping[str, str]] = {
    CRASHED: "Every check came to its end",
    INEXPRESSIBLE: "One file name can say exactly the tags that hold",
    MISNAMED: "A published wheel's build tag is the digest of its content",
}
"""Codes that the judge itself, and `builder.verify`, give."""

NEVER_WAIVED: Final = frozenset({*OPENING, CRASHED})
"""Codes after which nothing is known of the wheel, so that no policy may waive them."""

TITLES: Final[Mapping[str, str]] = {
    **OPENING,
    **{check.code: check.title for check in CHECKS},
    **JUDGING,
}
"""Every code that a finding can bear -> its title."""
