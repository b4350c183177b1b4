"""What the farm itself costs: from asking to starting, planning of hits, queueing, many workers.

    python benchmarks/farm.py [start] [hits] [queue] [throughput]

Everything is measured by the database's clock or the monotonic one, over the real engines: SQLite
as it is by default, PostgreSQL and Redis as servers of this program's own. Where two ways of the
same work are compared they alternate, so that what else the machine does meets both.
"""

from __future__ import annotations

import gzip
import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import insert, select

from store.catalogue import now
from store.channel import RELEASE
from store.database import Database
from store.digest import Sha256, digest_of, sha256_of
from store.provenance import Pin, Recipe
from store.schema import blobs, files, jobs, releases, resolutions, sources, targets
from store.target import Target, identity_of
from tests.services import Postgresql, running_redis
from tests.store.wheelshop import LINUX
from tests.workers.farm.conftest import QUEUE, work
from tests.workers.yard import Yard, ended
from workers.cli.broker import celery_app, pokes
from workers.farm.abilities import abilities_of
from workers.farm.farm import Farm, open_farm
from workers.farm.jobs import Claim
from workers.farm.ledger import Ledger
from workers.farm.line import Ask, Order
from workers.farm.registry import ToolchainFacts
from workers.farm.station import Shift, Station
from workers.plan import Call, Planner, WantedTarget, resolution_key
from workers.requirements import WantedRelease
from workers.settings import Settings
from workers.sources import acquire
from workers.targets import resolve_target

PROJECTS = Path(__file__).parent.parent / "tests" / "projects"
STARTS = 40
PROJECT_COUNT, TARGET_COUNT = 1_000, 10
SIZES = (1_000, 10_000, 100_000)
CLAIMS = 1_000
BUILDS = 40
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """A running PostgreSQL and Redis."""

    postgresql: Postgresql
    redis: str

    def database(self, name: str) -> str:
        """The URL of a new database."""
        self.postgresql.drop(name)  # type: ignore[arg-type]
        return self.postgresql.create(name)  # type: ignore[arg-type]


@contextmanager
def services() -> Iterator[Services]:
    """Both servers, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder, running_redis() as redis:
        cluster = Postgresql(Path(folder))
        cluster.start()
        try:
            yield Services(postgresql=cluster, redis=redis)
        finally:
            cluster.stop()


# --- from asking to starting ---------------------------------------------------------------------


def start(servers: Services) -> None:
    """Enqueue one job after the other on an idle farm; how long each waits for its start."""
    print("\n| engine | jobs | median, ms | 90 % within, ms |\n|---|---|---|---|")
    for engine, database, broker in (
        ("SQLite, workers look by themselves", None, None),
        ("PostgreSQL, woken over Redis", servers.database("bench_start"), servers.redis),
    ):
        with tempfile.TemporaryDirectory() as folder:
            yard = Yard(Path(folder) / "yard", database=database, broker=broker)
            waits = sorted(_starts(yard, Path(folder)))
            yard.close()
        median, most = statistics.median(waits), waits[int(len(waits) * 0.9)]
        print(f"| {engine} | {len(waits)} | {median:.0f} | {most:.0f} |")


def _starts(yard: Yard, folder: Path) -> Iterator[float]:
    sdist = packed("pure", folder)
    worker = yard.worker("--slots", "2")
    with pokes(celery_app(yard.settings)) as poker, yard.farm(poker) as farm:
        farm.store.keep(sdist)
        for order in yard.orders(sdist, STARTS):
            (job,) = farm.ledger.enqueue([order])
            (row,) = ended(farm, [job])
            assert row.state == "succeeded", row
            assert row.started_at is not None
            yield (row.started_at - row.created_at).total_seconds() * 1000
            time.sleep(0.1)  # idle again
    worker.stop()


# --- planning what is there ----------------------------------------------------------------------


def hits() -> None:
    """Plan ten thousand builds that the store has, and answer all of them."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings(store=root / "store", cache=root / "cache")
        with open_farm(settings) as farm:
            call, known = _stocked(farm)
            began, busy = time.monotonic(), time.process_time()
            submission = farm.submissions.create("bench", {})
            planner = Planner(
                store=farm.store, failures=farm.failures, settings=settings,
                toolchains=lambda _: {each.fingerprint: [each] for each in known},
                keep=lambda _: None,
            )  # fmt: skip
            place = 0
            for items in planner.plan(call):
                farm.submissions.add(submission, place, items)
                place += len(items)
            farm.submissions.planned(submission)
            outcomes = [row.outcome for row in farm.submissions.items(submission)]
            seconds, busy = time.monotonic() - began, time.process_time() - busy
    assert all(each is not None and each.status == "hit" for each in outcomes)
    print(
        f"\n{len(outcomes)} hits planned and answered: "
        f"{seconds:.1f} s, {busy:.1f} s of them processor"
    )


def _stocked(farm: Farm) -> tuple[Call, list[ToolchainFacts]]:
    """A store that has every build of a call, its rows written as publishing writes them."""
    assert LINUX.build is not None
    some = [
        replace(LINUX, build=replace(LINUX.build, config_sha256=sha256_of(str(n).encode())))
        for n in range(TARGET_COUNT)
    ]
    wanted = [_tiny(farm.settings, number) for number in range(PROJECT_COUNT)]
    known = [_toolchain(target) for target in some]
    _publish_all(farm, wanted, some, known)
    names = tuple(WantedTarget(name=str(n), target=each) for n, each in enumerate(some))
    return Call(wanted=tuple(wanted), targets=names, submitter="bench"), known


def _toolchain(target: Target) -> ToolchainFacts:
    order = work()
    fingerprint = replace(order, target=target).fingerprint
    identity = {"kind": "native"}
    return ToolchainFacts(
        fingerprint=fingerprint, name="x", sha256=digest_of(identity), identity=identity,
        tools={"uv": "1"},
    )  # fmt: skip


def _tiny(settings: Settings, number: int) -> WantedRelease:
    """A pinned release whose sdist is in the cache."""
    name = f"tiny{number}"
    data = gzip.compress(name.encode() * 500, mtime=0)
    sha256 = sha256_of(data)
    path = settings.cache / "sdists" / sha256 / f"{name}-1.0.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return WantedRelease(name=name, version="1.0", hashes=frozenset({sha256}))


def _publish_all(
    farm: Farm,
    wanted: Sequence[WantedRelease],
    some: Sequence[Target],
    known: Sequence[ToolchainFacts],
) -> None:
    pins = tuple(
        Pin(name=f"p{n}", version="1", filename=f"p{n}-1.whl", sha256=sha256_of(b"p"))
        for n in range(4)
    )
    blob = sha256_of(b"blob")
    rows: dict[str, list[dict[str, object]]] = {"files": [], "releases": [], "resolutions": []}
    source_rows, blob_rows = [], [{"sha256": blob, "size": 4}]
    for number, one in enumerate(wanted, 1):
        sdist = acquire(one, farm.settings)
        source_rows.append(_source_row(number, sdist.source.sha256, one.name))
        for target, facts in zip(some, known, strict=True):
            order = replace(
                work(), source=sdist.source, target=target, recipe=Recipe(), pins=pins,
                channel=RELEASE,
            )  # fmt: skip
            key = order.inputs(facts.identity, facts.tools).key
            filename = f"{one.name}-1.0-1_{key[:12]}-py3-none-any.whl"
            content = sha256_of(filename.encode())
            blob_rows.append({"sha256": content, "size": 1})
            rows["files"].append(_file_row(filename, content, one.name, blob))
            rows["releases"].append(_release_row(order.fingerprint, key, filename, number, blob))
            rows["resolutions"].append(
                {"key": resolution_key(order), "pins": [p.to_json() for p in pins],
                 "recorded_at": now()}
            )  # fmt: skip
    with farm.store.database.writing() as connection:
        connection.execute(insert(blobs), blob_rows)
        connection.execute(insert(sources), source_rows)
        identities = [{"fingerprint": each.fingerprint, "identity": identity_of(target)}
                      for target, each in zip(some, known, strict=True)]  # fmt: skip
        connection.execute(insert(targets), identities)
        for table in (files, releases, resolutions):
            connection.execute(insert(table), rows[table.name])


def _source_row(number: int, sha256: Sha256, name: str) -> dict[str, object]:
    return {
        "id": number, "sha256": sha256, "name": name, "version": "1.0",
        "filename": f"{name}-1.0.tar.gz", "origin_kind": "index", "origin_location": "x",
        "origin_pinned": True,
    }  # fmt: skip


def _file_row(filename: str, content: str, name: str, blob: str) -> dict[str, object]:
    return {
        "filename": filename, "sha256": content, "name": name, "version": "1.0",
        "tags": ["py3-none-any"], "requires_python": None, "metadata_sha256": blob,
        "content_sha256": content, "extension_modules": [], "interpreter_bound": [],
    }  # fmt: skip


def _release_row(
    fingerprint: str, key: str, filename: str, source: int, blob: str
) -> dict[str, object]:
    return {
        "channel": RELEASE, "fingerprint": fingerprint, "build_key": key, "filename": filename,
        "source_id": source, "log_sha256": blob, "provenance": {}, "proof": "import-proven",
        "published_at": now(), "yanked": None,
    }  # fmt: skip


# --- the queue -----------------------------------------------------------------------------------


def queue(servers: Services) -> None:
    """What a job costs the queue, by how many wait."""
    print("\n| engine | jobs waiting | enqueue, ms a job | claim and end, ms a job |")
    print("|---|---|---|---|")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _queue_row("SQLite", Database(Path(folder) / "catalogue.sqlite"), size)
        _queue_row("PostgreSQL", Database(servers.database("bench_queue")), size)


def _queue_row(engine: str, database: Database, size: int) -> None:
    database.migrate()
    ledger = Ledger(database)
    began = time.monotonic()
    for first in range(0, size, 100):
        ledger.enqueue(
            [
                Order(work=work(f"p{n}"), submitter=f"s{n % 7}")
                for n in range(first, min(first + 100, size))
            ]
        )
    enqueued = time.monotonic()
    for _ in range(min(CLAIMS, size)):
        _claim_and_end(ledger)
    claimed = time.monotonic()
    database.close()
    each = (claimed - enqueued) / min(CLAIMS, size)
    print(f"| {engine} | {size:,} | {(enqueued - began) / size * 1e3:.2f} | {each * 1e3:.2f} |")


def _claim_and_end(ledger: Ledger) -> None:
    claim: Claim | None = ledger.claim(Ask(worker="w", queues=(QUEUE,)))
    assert claim is not None
    ledger.succeed(claim, {"status": "built"}, None)


# --- throughput ----------------------------------------------------------------------------------


def throughput(servers: Services) -> None:
    """The same builds by one process with two slots, and by a farm of two workers."""
    ratios = []
    print("\n| round | local, two slots, s | two workers, PostgreSQL and Redis, s |\n|---|---|---|")
    for number in range(ROUNDS):
        local, farmed = _local(), _farmed(servers, number)
        ratios.append(farmed / local)
        print(f"| {number + 1} | {local:.1f} | {farmed:.1f} |")
    print(f"\nthe farm over local, median: {statistics.median(ratios):.3f}")


def _local() -> float:
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder) / "yard")
        sdist = packed("two-minded", Path(folder))
        with yard.farm() as farm:
            farm.store.keep(sdist)
            native = resolve_target("native", farm.settings)
            abilities = abilities_of([native], farm.settings.cache)
            station = Station(farm, abilities, Shift(slots=2))
            made = farm.ledger.enqueue(yard.orders(sdist, BUILDS))
            station.start()
            _all_done(farm, made)
            station.stop()
            return _span(farm)


def _farmed(servers: Services, number: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = servers.database(f"bench_throughput_{number}")
        yard = Yard(Path(folder) / "yard", database=database, broker=servers.redis)
        sdist = packed("two-minded", Path(folder))
        workers = [yard.worker("--slots", "1") for _ in range(2)]
        with pokes(celery_app(yard.settings)) as poker, yard.farm(poker) as farm:
            farm.store.keep(sdist)
            made = farm.ledger.enqueue(yard.orders(sdist, BUILDS))
            _all_done(farm, made)
            seconds = _span(farm)
        for worker in workers:
            worker.stop()
        return seconds


def _all_done(farm: Farm, made: Sequence[int]) -> None:
    while farm.ledger.waiting() or not all(
        farm.ledger.job(job).state == "succeeded" for job in made
    ):
        time.sleep(0.2)


def _span(farm: Farm) -> float:
    """Seconds from the first start to the last end."""
    with farm.store.database.reading() as connection:
        rows = connection.execute(select(jobs.c.started_at, jobs.c.finished_at)).all()
    return (
        max(row.finished_at for row in rows) - min(row.started_at for row in rows)
    ).total_seconds()


def packed(name: str, folder: Path) -> Path:
    """tests/projects/NAME as an sdist."""
    sdist = folder / f"{name.replace('-', '_')}-1.0.tar.gz"
    members = {path: path.relative_to(PROJECTS / name) for path in (PROJECTS / name).rglob("*")}
    members[PROJECTS / "wheel_writer.py"] = Path("wheel_writer.py")
    with tarfile.open(sdist, "w:gz") as tar:
        for path, inside in sorted(members.items()):
            if path.is_file() and "__pycache__" not in path.parts:
                info = tarfile.TarInfo(f"{name}-1.0/{inside}")
                info.size, info.mtime = path.stat().st_size, 1_600_000_000
                tar.addfile(info, io.BytesIO(path.read_bytes()))
    return sdist


def main(parts: Sequence[str]) -> None:
    """Run the parts that are named, or all of them."""
    chosen = set(parts) or {"start", "hits", "queue", "throughput"}
    if "hits" in chosen:
        hits()
    if chosen - {"hits"}:
        with services() as servers:
            for part in (start, queue, throughput):
                if part.__name__ in chosen:
                    part(servers)


if __name__ == "__main__":
    main(sys.argv[1:])
