"""From any wheel to one that may be published: only this module makes a VerifiedWheel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from packaging.tags import Tag

from builder.checks import link_symbols, musl_symbols
from builder.checks.catalogue import MISNAMED
from builder.checks.context import Context
from builder.checks.elf_rpath import absolute_folders
from builder.checks.libraries import libpython_of
from builder.errors import RefusedWheelError
from builder.judge import judge, judge_opened
from builder.modules import extension_modules
from builder.policy import NO_POLICY, Policy, policy_renamed
from builder.retag import build_of, content_build, content_digest, write_retagged
from builder.wheel import OpenedWheel, open_wheel
from store.verdict import Finding, Judgement, VerifiedWheel

_NOTHING: Final = Context()


def verify_for_store(path: Path, context: Context, out_dir: Path) -> VerifiedWheel | Judgement:
    """Judge the wheel at `path`, write it to `out_dir` as it may be published, and judge that.

    The file in `out_dir` is always written afresh, under the tags that hold and the build tag of
    its content; its findings are those of the first look and of the second. Gives the Judgement
    when the wheel is refused. Raises OSError.
    """
    first = judge(path, context)
    if first.verdict == "reject":
        return first
    wheel = open_wheel(path)
    written = write_retagged(wheel, first.tags, out_dir, content_build(wheel))
    second = reverify(written, context)
    if isinstance(second, Judgement):
        written.unlink()
        return replace(second, filename=first.filename, sha256=first.sha256)
    return replace(second, findings=_together(first.findings, second.findings))


def reverify(path: Path, context: Context = _NOTHING) -> VerifiedWheel | Judgement:
    """The published wheel at `path` as its bytes show it, or the Judgement that refuses it.

    It must be accepted as it is, and its build tag must be the digest of its content. `context` is
    needed only where the wheel was accepted because of it (a declared library, a libpython).
    Raises OSError.
    """
    try:
        wheel = open_wheel(path)
    except RefusedWheelError:
        return judge(path, context)
    judgement = judge_opened(wheel, context)
    if judgement.verdict != "accept":
        return replace(judgement, verdict="reject", tags=frozenset())
    if build_of(wheel) != content_build(wheel):
        findings = (*judgement.findings, _misnamed(wheel))
        return replace(judgement, verdict="reject", tags=frozenset(), findings=findings)
    return _verified(wheel, judgement)


def verify_adopted(path: Path, context: Context, out_dir: Path) -> VerifiedWheel | Judgement:
    """Judge a wheel that an index has, which stays as it is when all of its tags hold.

    Then it keeps its name and its bytes, and with them the hash that the index gives. One whose
    tags claim too much is written to `out_dir` as `verify_for_store` does. Raises OSError.
    """
    seen = reverify_adopted(path, context)
    if isinstance(seen, Judgement) and seen.verdict == "retag":
        return verify_for_store(path, context, out_dir)
    return seen


def reverify_adopted(path: Path, context: Context = _NOTHING) -> VerifiedWheel | Judgement:
    """The wheel at `path` as its bytes show it when it is accepted as it is, under whatever build
    tag; else the Judgement. Raises OSError."""
    try:
        wheel = open_wheel(path)
    except RefusedWheelError:
        return judge(path, context)
    judgement = judge_opened(wheel, context)
    return _verified(wheel, judgement) if judgement.verdict == "accept" else judgement


def retag_to(
    path: Path, judgement: Judgement, folder: Path, context: Context, policy: Policy = NO_POLICY
) -> Judgement:
    """Write the wheel that `judgement` wants retagged into `folder`, and judge what was written.

    The new wheel keeps its own build tag. Gives the verdict on it, whose `filename` is the new one;
    a new wheel that is not accepted is removed. What `policy` waives for the old file name is
    waived for the new one. Raises OSError.
    """
    wheel = open_wheel(path)
    written = write_retagged(wheel, judgement.tags, folder, build_of(wheel))
    again = judge(written, context, policy=policy_renamed(policy, path.name))
    if again.verdict != "accept":
        written.unlink()
        return replace(again, verdict="reject", tags=frozenset())
    return again


def _verified(wheel: OpenedWheel, judgement: Judgement) -> VerifiedWheel:
    requires = wheel.raw_metadata.get("requires_python")
    return VerifiedWheel(
        path=wheel.path,
        filename=wheel.filename,
        sha256=wheel.sha256,
        size=wheel.size,
        content_sha256=content_digest(wheel),
        name=wheel.name,
        version=wheel.version,
        tags=judgement.tags,
        requires_python=requires if isinstance(requires, str) else None,
        metadata=wheel.metadata,
        extension_modules=frozenset(m.importable_name for m in extension_modules(wheel)),
        interpreter_bound=_interpreter_bound(wheel),
        findings=judgement.findings,
        proof="link-checked" if _all_found(wheel, judgement.tags) else "statically-verified",
    )


def _all_found(wheel: OpenedWheel, tags: frozenset[Tag]) -> bool:
    """Whether every symbol that is asked for is known to be there, under each of `tags`."""
    return link_symbols.all_found(wheel, tags) or musl_symbols.all_found(wheel, tags)


def _interpreter_bound(wheel: OpenedWheel) -> tuple[str, ...]:
    """The members that load libpython, or name a folder of the machine they were built on."""
    loading = {member.path for member, _ in libpython_of(wheel)}
    return tuple(sorted(loading | {m.path for m, file in wheel.elf if absolute_folders(file)}))


def _misnamed(wheel: OpenedWheel) -> Finding:
    return Finding(
        check=MISNAMED,
        severity="error",
        message="the build tag is not the digest of the wheel's content",
        evidence={"build": build_of(wheel), "content": content_build(wheel)},
        hint="publish the wheel through the farm, which names it",
    )


def _together(first: tuple[Finding, ...], second: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return (*first, *(finding for finding in second if finding not in first))
