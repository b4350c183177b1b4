"""One sdist in, one verified wheel out: the top of the builder."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from builder.checks.context import Context
from builder.diagnose import first_error
from builder.failure import StepFailed
from builder.prepare import Readied, plan_inputs, prepare
from builder.process import network_can_be_cut
from builder.repair import repair
from builder.stages import BuildFailure, BuildRequest, BuiltWheel, FinishedBuild
from builder.verify import verify_for_store
from store.digest import JSON, sha256_of, sha256_of_file
from store.fingerprint import fingerprint_of
from store.provenance import BuildInputs, Provenance
from store.verdict import Judgement, VerifiedWheel

__all__ = ["build_wheel", "plan_inputs", "scratch_in"]


def build_wheel(request: BuildRequest) -> FinishedBuild | BuildFailure:
    """Build, repair and verify one wheel. ``request.workspace`` is left with the log and the wheel.

    Whatever the sdist, its backend or its requirements do wrong is a BuildFailure. Raises
    ArchiveError and DigestError for an sdist that must not be opened, InterpreterError for a
    toolchain without an interpreter, OSError for a workspace that cannot be written.
    """
    log = request.workspace / "build.log"
    log.touch()
    started, started_on = time.monotonic(), _moment()
    with scratch_in(request.workspace) as scratch:
        try:
            readied = prepare(request, scratch, log)
            with _knowing(readied.prepared.inputs):
                built = _run_backend(readied, scratch)
                wheel, repaired_by = repair(built, scratch)
                verified = _verify(built, wheel)
                contents = _contents(built.path, verified.path)
        except StepFailed as failed:
            return _failure(failed, log)
    environment = _environment(readied, repaired_by, int(time.monotonic() - started))
    times: dict[str, JSON] = {"started_on": started_on, "finished_on": _moment()}
    return _finished(built, verified, environment | contents | times)


@contextmanager
def scratch_in(workspace: Path) -> Iterator[Path]:
    """The new folder ``workspace/scratch``, taken away again whatever was done to it."""
    scratch = workspace / "scratch"
    scratch.mkdir()
    try:
        yield scratch.resolve()
    finally:
        _open_up(scratch)
        shutil.rmtree(scratch)


def _open_up(folder: Path) -> None:
    """A build may leave folders that nobody may write to or even list; they are ours all the same.

    Each is opened before `os.walk` goes down into it; links are not followed.
    """
    for parent, names, _ in os.walk(folder):
        for name in names:
            below = Path(parent, name)
            if not below.is_symlink():
                below.chmod(stat.S_IRWXU)


@contextmanager
def _knowing(inputs: BuildInputs) -> Iterator[None]:
    """A failure from here on can name its BuildKey, and be remembered by it."""
    try:
        yield
    except StepFailed as failed:
        failed.inputs = inputs
        raise


def _run_backend(readied: Readied, scratch: Path) -> BuiltWheel:
    prepared = readied.prepared
    request = prepared.request
    path = readied.backend.build_wheel(request.sdist.source, scratch / "built")
    return BuiltWheel(
        prepared=prepared,
        path=path,
        sha256=sha256_of_file(path),
        attempted_modules=request.toolchain.attempted_modules(scratch, prepared.log),
    )


def _verify(built: BuiltWheel, wheel: Path) -> VerifiedWheel:
    """The wheel, accepted and under its final name in ``workspace/wheel``. Raises StepFailed."""
    request = built.prepared.request
    folder = request.workspace / "wheel"
    folder.mkdir(exist_ok=True)
    judged = verify_for_store(wheel, context_of(request, built.attempted_modules), folder)
    if isinstance(judged, Judgement):
        shutil.rmtree(folder)
        raise _refused(judged)
    return judged


def _refused(judged: Judgement) -> StepFailed:
    errors = [finding for finding in judged.findings if finding.severity == "error"]
    first = errors[0].message if errors else f"verdict {judged.verdict}"
    return StepFailed(
        "verification", f"its wheel was refused: {first}", first_error=first,
        findings=judged.findings, hint=errors[0].hint if errors else None,
    )  # fmt: skip


def context_of(request: BuildRequest, attempted: frozenset[str] = frozenset()) -> Context:
    """What verification may know of this build; `attempted` are modules that it tried to make."""
    target, recipe = request.target, request.recipe
    expected: dict[str, frozenset[str]] = {
        "compiler log": attempted,
        "recipe": frozenset(recipe.expect_extension_modules),
    }
    expected.update({str(sibling): names for sibling, names in request.siblings.items()})
    return Context(
        target=fingerprint_of(target),
        target_tags=frozenset(target.supported_tags()),
        built_by=target.interpreter.python_tag,
        libpython_name=target.build.libpython_name if target.build else None,
        libpython_folder=str(folder) if (folder := request.toolchain.libpython_folder) else None,
        isa=target.isa,
        portable=target.build is None,
        expected_modules={reason: names for reason, names in expected.items() if names},
        external_libraries=recipe.external_libraries,
    )


def _environment(readied: Readied, repaired_by: str, seconds: int) -> dict[str, JSON]:
    """Facts for provenance that do not enter the BuildKey."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "network": "off" if network_can_be_cut() else "on",
        "backend": readied.prepared.backend,
        "repaired_by": repaired_by,
        "seconds": seconds,
        "source_date_epoch": readied.source_date_epoch,
    }


def _moment() -> str:
    """Now, in UTC and whole seconds, as RFC 3339 writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _contents(built: Path, wheel: Path) -> dict[str, JSON]:
    """What a bill of materials names of a verified wheel: what repair brought in, and bills."""
    with zipfile.ZipFile(built) as before, zipfile.ZipFile(wheel) as after:
        known = set(before.namelist())
        names = [name for name in after.namelist() if not name.endswith("/")]
        info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/WHEEL"))
        brought = [name for name in names if name not in known and not name.startswith(f"{info}/")]
        bills = [name for name in names if name.startswith(f"{info}/sboms/")]
        return {"vendored": _members(after, brought), "sboms": _members(after, bills)}


def _members(wheel: zipfile.ZipFile, names: list[str]) -> list[JSON]:
    return [{"path": name, "sha256": sha256_of(wheel.read(name))} for name in sorted(names)]


def _finished(
    built: BuiltWheel, verified: VerifiedWheel, environment: dict[str, JSON]
) -> FinishedBuild:
    prepared = built.prepared
    provenance = Provenance(
        source=prepared.request.sdist.source,
        fingerprint=fingerprint_of(prepared.request.target),
        inputs=prepared.inputs,
        built_filename=built.path.name,
        built_sha256=built.sha256,
        log_sha256=sha256_of_file(prepared.log),
        log_size=prepared.log.stat().st_size,
        proof=verified.proof,
        findings=verified.findings,
        environment=environment,
    )
    return FinishedBuild(wheel=verified, provenance=provenance, log=prepared.log)


def _failure(failed: StepFailed, log: Path) -> BuildFailure:
    return BuildFailure(
        kind=failed.kind,
        message=failed.message,
        first_error=failed.first_error or first_error(log),
        findings=failed.findings,
        inputs=failed.inputs,
        log=log,
        hint=failed.hint,
    )
