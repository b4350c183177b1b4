"""A worker on a machine of its own, which shares only PostgreSQL and a bucket with the planner."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from builder.stages import Sdist
from store.publish import Store
from tests.store.buckets import Bucket
from tests.workers.yard import Yard
from workers.farm.abilities import facts_of
from workers.farm.farm import Farm, open_farm
from workers.farm.follow import follow
from workers.matrix import Silent
from workers.plan import Call, Planner, WantedTarget
from workers.requirements import WantedFile
from workers.settings import Settings
from workers.targets import BuildTarget, resolve_target


def _machine(folder: Path, database: str, bucket: Bucket) -> Settings:
    return Settings(
        store=folder / "store", cache=folder / "cache", database=database, blobs=bucket.url
    )


def _submit(farm: Farm, sdist: Path, target: BuildTarget) -> str:
    """Queue the build of `sdist`, which is kept as a blob for whoever builds it."""

    def keep(kept: Sdist) -> None:
        farm.store.keep(kept.path)

    planner = Planner(
        store=farm.store,
        failures=farm.failures,
        settings=farm.settings,
        toolchains=lambda _: {target.fingerprint: [facts_of(target)]},
        keep=keep,
    )
    wanted = WantedTarget(name="native", target=target.target)
    call = Call(wanted=(WantedFile(path=sdist),), targets=(wanted,), submitter="test")
    submission = farm.submissions.create(call.submitter, {})
    for items in planner.plan(call):
        farm.submissions.add(submission, 0, items)
    farm.submissions.planned(submission)
    return submission


def test_a_worker_builds_an_sdist_that_it_has_only_as_a_blob(
    pack: Callable[[str], Path], tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    one = _machine(tmp_path / "one", new_database, bucket)
    two = Yard(tmp_path / "two", database=new_database, blobs=bucket.url)
    with closing(two), open_farm(one) as farm:
        submission = _submit(farm, pack("pure"), resolve_target("native", one))
        two.worker()
        (outcome,) = follow(farm.submissions, submission, Silent())
    assert outcome.status == "built", outcome
    assert not (two.settings.store / "blobs").exists()
    with closing(Store.open(one.store, database=new_database)) as store:
        (release,) = store.catalogue.releases_of(str(outcome.filename))
        assert store.blobs.size(release.sha256)
