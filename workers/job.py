"""One job, done in a process of its own: build, publish, say how it ended."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection

from builder.build import build_wheel, context_of
from builder.stages import BuildFailure, BuildRequest, FinishedBuild, Sdist
from builder.verify import reverify
from store.access import Actor
from store.audit import Deed, record
from store.digest import JSON, Sha256
from store.disk import disk_trouble, locked_folder
from store.errors import DisownedError, NotProvenError, QuotaError
from store.fingerprint import Fingerprint
from store.publish import Fence, Store
from store.release import Release
from store.verdict import Judgement, VerifiedWheel
from workers.farm.farm import store_of
from workers.farm.jobs import Claim, fence
from workers.farm.live_log import LiveLog
from workers.farm.patience import FOR_THE_STORE, Patience, patiently
from workers.farm.stamp import check_unchanged
from workers.farm.work import Work
from workers.outcome import Outcome, Status, outcome_of
from workers.plan import offered, resolution_key
from workers.settings import Settings
from workers.targets import BuildTarget

_LOG: Final = logging.getLogger("wheelfarm.worker")
_STATUS: Final[Mapping[str, Status]] = {"verification": "refused", "infrastructure": "trouble"}


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed build, with all that it needs on this machine. It is sent to another process, so
    it holds nothing that is open."""

    claim: Claim
    sdist: Sdist
    target: BuildTarget
    stamp: Sha256
    settings: Settings

    @property
    def work(self) -> Work:
        """What is to be built."""
        return self.claim.work

    def request(self, workspace: Path) -> BuildRequest:
        """The builder's orders, to be carried out in `workspace`."""
        return BuildRequest(
            sdist=self.sdist,
            target=self.target.target,
            toolchain=self.target.toolchain,
            recipe=self.work.recipe,
            pins=self.work.pins,
            workspace=workspace,
            index_url=self.settings.index_url,
            epoch=self.work.epoch,
            salt=self.work.salt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended, and the blob of its log where the build failed."""

    outcome: Outcome
    log_sha256: Sha256 | None = None


def run_job(job: Job) -> Ended:
    """Build and publish `job`; the log of a failed build is kept in the cache and as a blob.

    A store whose servers are away is waited for, ten minutes at most.

    Raises what the builder and the store raise: an sdist that must not be opened, a disk that is
    full; LeaseLostError when another worker has the job by now. Nothing is left of the build but
    the release, or the log.
    """
    started = time.monotonic()
    settings = job.settings
    store = _patiently(lambda: store_of(settings, verifier=_Verifier(job)))
    scratch = scratch_of(settings.cache)
    try:
        with disk_trouble("build in", scratch), locked_folder(scratch) as workspace:
            ended = _build_and_publish(job, store, workspace)
    finally:
        store.close()
    outcome = dataclasses.replace(ended.outcome, seconds=int(time.monotonic() - started))
    return dataclasses.replace(ended, outcome=outcome)


def scratch_of(cache: Path) -> Path:
    """The folder of the folders that builds work in, made if need be."""
    scratch = cache / "scratch"
    with disk_trouble("make", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _build_and_publish(job: Job, store: Store, workspace: Path) -> Ended:
    siblings = _patiently(
        lambda: store.catalogue.siblings(job.sdist.source.sha256, job.target.fingerprint)
    )
    request = dataclasses.replace(job.request(workspace), siblings=siblings)
    with LiveLog(job.claim, store.database, workspace / "build.log"):
        built = build_wheel(request)
    check_unchanged(job.target.toolchain, job.stamp)  # else its BuildKey would not be true
    if isinstance(built, BuildFailure):
        return _patiently(lambda: _failed(job, store, built))
    return _patiently(lambda: _released(job, store, built, siblings))


def _patiently(act: Callable[[], T]) -> T:
    """`act` done, tried again while the store's servers are away: a build is not lost by that.

    Every try to publish passes the fence anew, so one whose lease is lost meanwhile is refused.
    """
    return patiently(act, Patience(FOR_THE_STORE, tell=_LOG.warning))


def _released(
    job: Job, store: Store, built: FinishedBuild, siblings: Mapping[Fingerprint, frozenset[str]]
) -> Ended:
    try:
        release = _publish(job, store, built)
    except (DisownedError, QuotaError) as error:
        return Ended(outcome=outcome_of(job.work, job.target.name, "refused", error=error))
    _withdraw_poorer(store, release, siblings)
    return Ended(outcome=_published(job, store, release))


def _publish(job: Job, store: Store, built: FinishedBuild) -> Release:
    worker: dict[str, JSON] = {"worker": job.claim.worker}
    environment = {**built.provenance.environment, **worker}
    release = store.put(
        built.wheel,
        provenance=dataclasses.replace(built.provenance, environment=environment),
        channel=job.work.channel,
        target=job.target.target,
        log=built.log,
        fence=_publishing(job, built.wheel),
    )
    _remember_resolution(job, store, built)
    return release


def _publishing(job: Job, wheel: VerifiedWheel) -> Fence:
    """Lets only who has the job publish, and has the audit log say that it did."""
    work, may_publish = job.work, fence(job.claim)
    deed = Deed(
        actor=Actor(who=f"worker {job.claim.worker}"),
        action="publish",
        object=f"{work.channel} {wheel.filename}",
        detail={"job": job.claim.job_id, "fingerprint": work.fingerprint, "sha256": wheel.sha256},
    )

    def check(connection: Connection) -> None:
        may_publish(connection)
        record(connection, deed)

    return check


def _remember_resolution(job: Job, store: Store, built: FinishedBuild | BuildFailure) -> None:
    inputs = built.provenance.inputs if isinstance(built, FinishedBuild) else built.inputs
    if inputs is not None:
        key = resolution_key(job.work)
        store.catalogue.remember_resolution(key, inputs.build_requirements)


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


def _published(job: Job, store: Store, release: Release) -> Outcome:
    if not offered(store.catalogue, release):
        return dataclasses.replace(
            outcome_of(job.work, job.target.name, "refused"),
            code="yanked",
            message=f"{release.filename} was withdrawn: {release.yanked}",
            hint="change its recipe, or raise the epoch, for a build of its own",
        )
    return dataclasses.replace(
        outcome_of(job.work, job.target.name, "built"),
        filename=release.filename,
        sha256=release.sha256,
        build_key=release.build_key,
    )


def _failed(job: Job, store: Store, failure: BuildFailure) -> Ended:
    _remember_resolution(job, store, failure)
    outcome = dataclasses.replace(
        outcome_of(job.work, job.target.name, _STATUS.get(failure.kind, "failed")),
        code=failure.kind,
        message=failure.message,
        first_error=failure.first_error,
        hint=failure.hint,
        findings=failure.findings,
        log=str(_keep_log(job, failure.log)),
        build_key=failure.inputs.key if failure.inputs else None,
    )
    return Ended(outcome=outcome, log_sha256=store.keep(failure.log).sha256)


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
