"""One job, done in a process of its own: build, publish, say how it ended."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from builder.build import build_wheel, context_of
from builder.stages import BuildFailure, FinishedBuild
from builder.verify import reverify
from store.disk import disk_trouble, locked_folder
from store.errors import NotProvenError
from store.fingerprint import Fingerprint
from store.publish import Store
from store.release import Release
from store.verdict import Judgement, VerifiedWheel
from workers.outcome import Outcome, Status
from workers.plan import Job, outcome_of, resolution_key

_STATUS: Final[Mapping[str, Status]] = {"verification": "refused", "infrastructure": "trouble"}


def run_job(job: Job) -> Outcome:
    """Build and publish `job`; the log of a failed build is kept in the cache.

    Raises what the builder and the store raise: an sdist that must not be opened, a disk that is
    full. Nothing is left of the build but the release, or the log.
    """
    started = time.monotonic()
    settings = job.settings
    store = Store.open(settings.store, blobs=settings.blobs, verifier=_Verifier(job))
    scratch = scratch_of(settings.cache)
    try:
        with disk_trouble("build in", scratch), locked_folder(scratch) as workspace:
            outcome = _build_and_publish(job, store, workspace)
    finally:
        store.close()
    return dataclasses.replace(outcome, seconds=int(time.monotonic() - started))


def scratch_of(cache: Path) -> Path:
    """The folder of the folders that builds work in, made if need be."""
    scratch = cache / "scratch"
    with disk_trouble("make", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _build_and_publish(job: Job, store: Store, workspace: Path) -> Outcome:
    siblings = store.catalogue.siblings(job.sdist.source.sha256, job.target.fingerprint)
    request = dataclasses.replace(job.request(workspace), siblings=siblings)
    built = build_wheel(request)
    if isinstance(built, BuildFailure):
        return _failed(job, built)
    release = _publish(job, store, built)
    _withdraw_poorer(store, release, siblings)
    return _published(job, release)


def _publish(job: Job, store: Store, built: FinishedBuild) -> Release:
    release = store.put(
        built.wheel,
        provenance=built.provenance,
        channel=job.channel,
        target=job.target.target,
        log=built.log,
    )
    key = resolution_key(job.sdist, job.target.fingerprint, job.recipe)
    store.catalogue.remember_resolution(key, built.provenance.inputs.build_requirements)
    return release


def _withdraw_poorer(
    store: Store, release: Release, siblings: Mapping[Fingerprint, frozenset[str]]
) -> None:
    """Yank what the same sdist gave before without any extension module, if this has some.

    A build that fell back to pure Python ends with status 0; only its siblings tell. Which of them
    is built first is chance, so what is found late is mended late.
    """
    if not release.extension_modules:
        return
    reason = f"holds no extension module, {release.filename} of the same sdist does"
    for fingerprint, modules in siblings.items():
        if not modules:
            store.catalogue.yank_builds(
                release.channel, fingerprint, release.name, release.version, reason
            )


def _published(job: Job, release: Release) -> Outcome:
    if release.yanked is not None:
        return dataclasses.replace(
            outcome_of(job, "refused"),
            code="yanked",
            message=f"{release.filename} was withdrawn: {release.yanked}",
            hint="change its recipe, or raise the epoch, for a build of its own",
        )
    return dataclasses.replace(
        outcome_of(job, "built"), filename=release.filename, sha256=release.sha256
    )


def _failed(job: Job, failure: BuildFailure) -> Outcome:
    return dataclasses.replace(
        outcome_of(job, _STATUS.get(failure.kind, "failed")),
        code=failure.kind,
        message=failure.message,
        first_error=failure.first_error,
        hint=failure.hint,
        findings=failure.findings,
        log=str(_keep_log(job, failure.log)),
    )


def _keep_log(job: Job, log: Path) -> Path:
    source = job.sdist.source
    kept = job.settings.cache / "logs" / f"{source.name}-{source.version}-{job.target.fingerprint}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(log, kept.with_name(f"{kept.name}.log")))


@dataclasses.dataclass(frozen=True, slots=True)
class _Verifier:
    """The store's second look: from the bytes again, with what may be known of this job."""

    job: Job

    def __call__(self, path: Path) -> VerifiedWheel:
        """The wheel at `path` as its bytes show it. Raises NotProvenError when it is refused."""
        seen = reverify(path, context_of(self.job.request(path.parent)))
        if isinstance(seen, Judgement):
            errors = [found.message for found in seen.findings if found.severity == "error"]
            raise NotProvenError(f"{path.name} was refused at the store's door: {errors[:3]}")
        return seen
