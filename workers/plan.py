"""What there is to do: every wanted thing for every target, and what is done already.

Planning needs no network for what was built before: the build requirements that a Source got for a
Fingerprint are remembered as a resolution, so its BuildKey is known at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.build import plan_inputs
from builder.stages import BuildRequest, Sdist
from store.catalogue import SUPERSEDED
from store.channel import Channel
from store.digest import Sha256, digest_of
from store.errors import FARM_TROUBLE, WheelfarmError
from store.fingerprint import Fingerprint
from store.provenance import Pin, Recipe
from store.publish import Store
from workers.errors import ConflictingSourcesError
from workers.markers import applies
from workers.outcome import Outcome, Status
from workers.requirements import Wanted, WantedFile
from workers.settings import Settings
from workers.sources import acquire, channel_for
from workers.targets import BuildTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One build to do. It is sent to another process, so it holds nothing that is open.

    `pins` are a remembered resolution, None asks for a fresh one. `package` is ``NAME==VERSION``.
    """

    sdist: Sdist
    target: BuildTarget
    recipe: Recipe
    pins: tuple[Pin, ...] | None
    channel: Channel
    settings: Settings

    @property
    def package(self) -> str:
        """What a person calls it."""
        return f"{self.sdist.source.name}=={self.sdist.source.version}"

    def request(self, workspace: Path) -> BuildRequest:
        """The builder's orders, to be carried out in `workspace`."""
        return BuildRequest(
            sdist=self.sdist,
            target=self.target.target,
            toolchain=self.target.toolchain,
            recipe=self.recipe,
            pins=self.pins,
            workspace=workspace,
            index_url=self.settings.index_url,
            epoch=self.settings.epoch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one run was asked for. `channel` None sends each Source where it belongs."""

    wanted: tuple[Wanted, ...]
    targets: tuple[BuildTarget, ...]
    channel: Channel | None
    refresh: bool


def plan(call: Call, store: Store, settings: Settings) -> Iterator[Job | Outcome]:
    """One item for each wanted thing and target: a Job, or its Outcome where nothing is to do.

    A thing that cannot be had (no such version, another hash) ends for all targets, and harms no
    other. Raises ConflictingSourcesError when two sdists claim one name and version.
    """
    seen: dict[tuple[str, str], Sha256] = {}
    for wanted in call.wanted:
        targets = [target for target in call.targets if _applies(wanted, target)]
        yield from (_skipped(wanted, target) for target in call.targets if target not in targets)
        if not targets:
            continue
        try:
            sdist = acquire(wanted, settings)
        except WheelfarmError as error:
            yield from (_unobtainable(wanted, target, error) for target in targets)
            continue
        _refuse_conflict(seen, sdist)
        for target in targets:
            job = _job(sdist, target, call, store, settings)
            yield _hit(job, store) or job


def resolution_key(sdist: Sdist, fingerprint: Fingerprint, recipe: Recipe) -> Sha256:
    """Under what the resolved build requirements of a build are remembered."""
    return digest_of(
        {
            "source": sdist.source.sha256,
            "fingerprint": fingerprint,
            "recipe": recipe.to_json(),
        }
    )


def outcome_of(
    job: Job, status: Status, *, error: WheelfarmError | None = None, seconds: int = 0
) -> Outcome:
    """The outcome of `job`, with the words of `error` if there is one."""
    source = job.sdist.source
    return Outcome(
        package=source.name,
        version=source.version,
        target=job.target.name,
        fingerprint=job.target.fingerprint,
        channel=job.channel,
        status=status,
        code=error.code if error else None,
        message=error.message if error else None,
        hint=error.hint if error else None,
        seconds=seconds,
    )


def status_of(error: WheelfarmError) -> Status:
    """Whose fault an error is: the package's (`failed`) or the farm's (`trouble`)."""
    return "trouble" if error.transient or error.exit_status == FARM_TROUBLE else "failed"


def _applies(wanted: Wanted, target: BuildTarget) -> bool:
    return isinstance(wanted, WantedFile) or applies(wanted.marker, target.target)


def _job(sdist: Sdist, target: BuildTarget, call: Call, store: Store, settings: Settings) -> Job:
    recipe = settings.recipe(sdist.source.name)
    key = resolution_key(sdist, target.fingerprint, recipe)
    return Job(
        sdist=sdist,
        target=target,
        recipe=recipe,
        pins=None if call.refresh else store.catalogue.resolution(key),
        channel=call.channel or channel_for(sdist.source),
        settings=settings,
    )


def _hit(job: Job, store: Store) -> Outcome | None:
    """The outcome of a job whose wheel is in the store already."""
    if job.pins is None:
        return None
    key = plan_inputs(job.request(job.settings.cache)).key
    release = store.catalogue.find_release(job.channel, job.target.fingerprint, key)
    if release is None:
        return None
    if release.yanked is not None:
        if not release.yanked.startswith(SUPERSEDED):
            return None
        store.catalogue.prefer(release)
    return dataclasses.replace(
        outcome_of(job, "hit"), filename=release.filename, sha256=release.sha256
    )


def _refuse_conflict(seen: dict[tuple[str, str], Sha256], sdist: Sdist) -> None:
    source = sdist.source
    other = seen.setdefault((source.name, source.version), source.sha256)
    if other != source.sha256:
        raise ConflictingSourcesError(
            f"two sdists of {source.name} {source.version}: {other[:12]} and {source.sha256[:12]}",
            hint="a name and version has one content: leave one out",
        )


def _skipped(wanted: Wanted, target: BuildTarget) -> Outcome:
    marker = None if isinstance(wanted, WantedFile) else wanted.marker
    return dataclasses.replace(
        _without_a_source(wanted, target, "skipped"), message=f"its marker: {marker}"
    )


def _unobtainable(wanted: Wanted, target: BuildTarget, error: WheelfarmError) -> Outcome:
    return dataclasses.replace(
        _without_a_source(wanted, target, status_of(error)),
        code=error.code,
        message=error.message,
        hint=error.hint,
    )


def _without_a_source(wanted: Wanted, target: BuildTarget, status: Status) -> Outcome:
    name, version = _label(wanted)
    return Outcome(
        package=name,
        version=version,
        target=target.name,
        fingerprint=target.fingerprint,
        channel="",
        status=status,
    )


def _label(wanted: Wanted) -> tuple[str, str]:
    if isinstance(wanted, WantedFile):
        return wanted.path.name, ""
    return wanted.name, wanted.version
