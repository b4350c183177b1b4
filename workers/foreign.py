"""A wheel that was made elsewhere: whom it may serve here, and the record that it gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from store.digest import JSON, sha256_of_file
from store.errors import PolicyError
from store.fingerprint import fingerprint_of
from store.provenance import BuildInputs, Provenance, Recipe, Source
from store.publish import Papers
from store.target import Target, identity_of
from store.verdict import VerifiedWheel
from store.widening import check_serves


def serves(wheel: VerifiedWheel, target: Target) -> bool:
    """Whether an installer on `target` takes it. What is bound to one interpreter build is for
    nobody here: nobody saw which one it was built on."""
    if wheel.interpreter_bound:
        return False
    try:
        check_serves(wheel.filename, wheel.tags, wheel.interpreter_bound, target)
    except PolicyError:
        return False
    return True


def papers_of(
    wheel: VerifiedWheel,
    source: Source,
    target: Target,
    *,
    log: Path,
    environment: Mapping[str, JSON],
) -> Papers:
    """The record of the wheel: its source is the file as it was when it came."""
    provenance = Provenance(
        source=source,
        fingerprint=fingerprint_of(target),
        inputs=_inputs(source, target),
        built_filename=source.filename,
        built_sha256=source.sha256,
        log_sha256=sha256_of_file(log),
        log_size=log.stat().st_size,
        proof=wheel.proof,
        findings=wheel.findings,
        environment=environment,
    )
    return Papers(target=target, provenance=provenance)


def write_log(wheel: VerifiedWheel, source: Source, came: str, log: Path) -> None:
    """What a build's log is for a build: how the wheel came here."""
    lines = [
        f"{source.filename} ({source.sha256}) {came}",
        f"published as {wheel.filename} ({wheel.sha256})",
        *(f"{each.severity}: {each.check}: {each.message}" for each in wheel.findings),
    ]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def _inputs(source: Source, target: Target) -> BuildInputs:
    """What a BuildKey is made of, so that the same file for the same target is the same release."""
    return BuildInputs(
        source_name=source.name,
        source_version=source.version,
        source_sha256=source.sha256,
        target=identity_of(target),
        recipe=Recipe(),
        build_requirements=(),
        toolchain={"kind": source.origin.kind},
        tools={},
        epoch=0,
    )
