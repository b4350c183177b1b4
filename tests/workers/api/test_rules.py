"""Every route of the whole server has a rule, and every rule is kept: allowed and refused."""

from __future__ import annotations

import functools
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from store.access import RIGHTS, RULES, Actor, Anonymous, ChannelPattern, Grant, Right, Rule
from store.accounts import Accounts, NewToken
from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE, Channel
from store.delivery import Delivery
from store.fingerprint import fingerprint_of
from store.gate import Gate
from store.keyring import FOLDER as KEYS
from store.keyring import KeyRing, store_id_of
from store.provenance import Origin
from store.schema import jobs, submissions
from store.target import identity_of
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel
from tests.workers.farm.conftest import work
from workers.api.app import create_server
from workers.errors import TransitionError
from workers.farm.calls import SaidCall, kept
from workers.farm.desk import FarmDesk
from workers.farm.farm import Farm, farm_over, open_farm, store_of
from workers.farm.line import Order
from workers.settings import Settings

MINE, YOURS = Channel("dev/mine"), Channel("dev/yours")
LOCAL = Origin(kind="local", location="/src", pinned=False)
NAME = fingerprint_of(LINUX)
CALL = {
    "wanted": [{"kind": "release", "name": "six", "version": "1.17.0"}],
    "targets": [{"name": "here", "identity": dict(identity_of(LINUX))}],
    "submitter": "me",
    "channel": str(MINE),
}
PROBE = (Path(__file__).parents[2] / "golden" / "probe-macos.json").read_text()
ADOPTION = {"wanted": [], "targets": [], "fingerprints": [NAME]}
PROMOTION = {
    "selection": {"package": "wheaty"},
    "source": MINE,
    "target": "dev/mixed",
    "reason": "tested",
    "dry_run": True,
}
GATED = {route: rule for route, rule in RULES.items() if rule.place != "public"}


class Server:
    """A farm of the test's own, and its whole application without a socket in between."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.accounts = Accounts(farm.store.database)
        self.job, self.submission = self._prepare()
        self.app = functools.cache(self._app)

    def _prepare(self) -> tuple[int, str]:
        """A job and a submission of the channel `MINE`, both over, so that streams of them end."""
        (job,) = self.farm.ledger.enqueue([Order(work=work(channel=MINE), submitter="me")])
        self.farm.ledger.cancel(job, "to be seen")
        call = SaidCall.model_validate(CALL)
        submission = self.farm.submissions.create("me", kept(call))
        self.farm.submissions.planned(submission)
        return job, submission

    def _app(self, anonymous: Anonymous | None = "none", *, loopback: bool = False) -> Starlette:
        gate = Gate(accounts=self.accounts, anonymous=anonymous, loopback=loopback)
        return create_server(FarmDesk(self.farm, Actor(who="server")), Delivery(), gate)

    def token(self, *scopes: Right, channel: str) -> str:
        grant = Grant(scopes=frozenset(scopes), channels=(ChannelPattern(channel),))
        new = NewToken(name="somebody", grant=grant, life=timedelta(hours=1))
        return self.accounts.create(new, Actor(who="test"))[1].text

    def ask(
        self, route: str, *, token: str | None = None, app: Starlette | None = None, **headers: str
    ) -> httpx.Response:
        """What the route answers, for the job, the submission and the channel `MINE`."""
        method, _, template = route.partition(" ")
        path = template.replace("{channel:channel}", MINE).replace("{page:path}", "simple")
        path = path.replace("{submission_id}", self.submission).replace("{job_id}", str(self.job))
        path = path.replace("{filename}", "wheaty-1.0.tar.gz" if "sdists" in path else "x.whl")
        path = path.format(fingerprint=NAME, project="wheaty", sha256="0" * 64, worker_id="nobody")
        options: dict[str, Any] = {"headers": headers}
        if token:
            options["headers"]["authorization"] = f"Bearer {token}"
        if "resolve" in path:
            options["content"] = PROBE
        elif "submissions" in path or "plan" in path:
            options["json"] = CALL
        elif path == "/api/adopt":
            options["json"] = ADOPTION
        elif path == "/api/promote":
            options["json"] = PROMOTION
        elif path == "/api/jobs/retry":
            options["params"] = {"label": "wheaty"}
        return send(app or self.app(), method, path, **options)

    def changes(self) -> tuple[Any, ...]:
        """All that an order could have changed."""
        with self.farm.store.database.reading() as connection:
            found = connection.execute(select(jobs.c.state).order_by(jobs.c.id)).scalars().all()
            count = connection.execute(select(func.count()).select_from(submissions)).scalar()
        rows = audit_rows(self.farm.store.database, AuditFilter(), 1_000)
        orders = [row.id for row in rows if not row.action.startswith("token")]
        return tuple(found), count, orders


@pytest.fixture(autouse=True)
def rested(request: pytest.FixtureRequest) -> None:
    """A test may have retried the job: the events of one that waits would not end."""
    if "server" in request.fixturenames:
        server: Server = request.getfixturevalue("server")
        with suppress(TransitionError):
            server.farm.ledger.cancel(server.job, "to be seen")


def refused(answer: httpx.Response, status: int, code: str) -> bool:
    assert answer.status_code == status, answer.text
    return answer.request.method == "HEAD" or answer.json()["code"] == code


def send(app: Starlette, method: str, path: str, **options: Any) -> httpx.Response:
    async def sending() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=options.pop("base_url", "http://farm.example")
        ) as client:
            return await client.request(method, path, **options)

    return anyio.run(sending)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rules")
    settings = Settings(store=folder / "store", cache=folder / "cache")
    store = store_of(settings, verifier=read_wheel)
    KeyRing(folder=store.root / KEYS).create(store_id_of(store.root))
    publish(store, make_wheel(folder), channel=MINE, origin=LOCAL)
    publish(store, make_wheel(folder, name="corny"), channel=RELEASE)
    yield Server(farm_over(store, settings))
    store.close()


def passed(answer: httpx.Response) -> bool:
    assert answer.status_code < 500, answer.text
    return answer.status_code not in {401, 403}


def enough(rule: Rule, route: str) -> str:
    """A pattern of channels in which the right of `rule` is enough."""
    if rule.place == "everywhere":
        return "*"
    others = {
        "POST /resolve": RELEASE,
        "POST /legacy/": "dev/uploads",
        "POST /api/promote": "dev/mi*",
        "POST /api/adopt": "upstream",
    }
    return others.get(route, MINE)


def lesser(right: Right) -> list[Right]:
    """All other rights that do not bring `right`."""
    return [other for other in RIGHTS if other not in {right, "admin"} and right != "read"]


def routes(found: list[BaseRoute], prefix: str = "") -> Iterator[str]:
    for route in found:
        if isinstance(route, Mount):
            yield from routes(list(route.app.router.routes), prefix + route.path)  # type: ignore[attr-defined]
        elif hasattr(route, "original_router"):  # one that FastAPI took in
            yield from routes(list(route.original_router.routes), prefix)
        else:
            assert isinstance(route, Route), route
            methods = set(route.methods or ()) - (
                {"HEAD"} if "GET" in (route.methods or ()) else set()
            )
            yield from (f"{method} {prefix}{route.path}" for method in methods)


def test_every_route_of_the_server_has_a_rule_and_every_rule_a_route(server: Server) -> None:
    found = list(routes(list(server.app().router.routes)))
    assert sorted(found) == sorted(RULES)


@pytest.mark.parametrize("route", GATED)
def test_the_right_in_its_place_is_enough(server: Server, route: str) -> None:
    rule = GATED[route]
    token = server.token(rule.right, channel=enough(rule, route))
    assert passed(server.ask(route, token=token))


@pytest.mark.parametrize("route", GATED)
def test_the_right_in_another_place_is_not(server: Server, route: str) -> None:
    rule = GATED[route]
    if rule.place == "anywhere":
        assert passed(server.ask(route, token=server.token(rule.right, channel=YOURS)))
        return
    before = server.changes()
    for channel in (YOURS, "dev/mine-too", "dev/y*"):
        answer = server.ask(route, token=server.token("admin", channel=channel))
        assert refused(answer, 403, "not-allowed")
    assert server.changes() == before


@pytest.mark.parametrize("route", GATED)
def test_every_other_right_is_not(server: Server, route: str) -> None:
    rule = GATED[route]
    others = lesser(rule.right)
    if not others:
        assert rule.right == "read"  # which every right brings: the next test refuses it
        return
    before = server.changes()
    answer = server.ask(route, token=server.token(*others, channel="*"))
    assert refused(answer, 403, "not-allowed")
    assert server.changes() == before


@pytest.mark.parametrize("route", GATED)
def test_without_a_token_it_is_as_is_set(server: Server, route: str) -> None:
    rule = GATED[route]
    before = server.changes()
    for anonymous in ("none", "read", None):
        answer = server.ask(route, app=server.app(anonymous))
        if rule.changes or anonymous == "none":
            assert refused(answer, 401, "token-needed")
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
        else:
            assert passed(answer)
    assert server.changes() == before
    assert passed(server.ask(route, app=server.app("all")))


@pytest.mark.parametrize("route", sorted(RULES.keys() - GATED.keys()))
def test_what_is_public_needs_nothing(server: Server, route: str) -> None:
    answer = server.ask(route, token="no token at all")
    if route == "POST /api/oidc/mint":  # looks for itself, see test_oidc.py
        assert answer.json()["code"] == "malformed"
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("route", [route for route, rule in GATED.items() if rule.changes])
def test_a_page_of_another_site_changes_nothing_whoever_asks(server: Server, route: str) -> None:
    before = server.changes()
    token = server.token("admin", channel="*")
    for origin in ("https://evil.example", "null", "http://[", "http://farm.example.evil"):
        answer = server.ask(route, token=token, app=server.app("all"), origin=origin)
        assert answer.status_code == 403, answer.text
    assert server.changes() == before
    assert passed(server.ask(route, token=token, origin="http://farm.example"))


RETRY = "POST /api/jobs/retry"


@pytest.fixture
def fresh(tmp_path: Path, migrated: Path) -> Iterator[Server]:
    shutil.copytree(migrated, tmp_path / "store")
    settings = Settings(store=tmp_path / "store", cache=tmp_path / "cache")
    store = store_of(settings)
    yield Server(farm_over(store, settings))
    store.close()


def test_one_machine_without_a_token_needs_none_and_then_it_does(fresh: Server) -> None:
    app = fresh.app(None, loopback=True)
    asked = {"app": app, "host": "127.0.0.1:8484"}
    assert passed(fresh.ask(RETRY, **asked))  # type: ignore[arg-type]
    fresh.accounts.revoke(fresh.token("read", channel="*")[4:16], Actor(who="test"))
    assert fresh.ask(RETRY, **asked).status_code == 401  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("via", "1.1 proxy"),
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example"),
        ("host", "[::1"),
    ],
)
def test_what_comes_through_a_proxy_or_by_another_name_is_not_of_this_machine(
    fresh: Server, name: str, value: str
) -> None:
    app = fresh.app(None, loopback=True)
    headers = {"host": "localhost", name: value}
    assert fresh.ask(RETRY, app=app, **headers).status_code in {400, 401}
    assert fresh.ask("GET /api/jobs", app=app, **headers).status_code in {200, 400}


def test_where_ci_systems_are_trusted_a_token_is_needed_from_the_beginning(fresh: Server) -> None:
    gate = Gate(accounts=fresh.accounts, loopback=True, trusts=True)
    app = create_server(FarmDesk(fresh.farm, Actor(who="server")), Delivery(), gate)
    assert fresh.ask(RETRY, app=app, host="localhost").status_code == 401


def test_a_call_goes_only_to_channels_that_the_token_covers(fresh: Server) -> None:
    release = {**CALL["wanted"][0], "hashes": ["0" * 64]}  # type: ignore[index]
    upload = {"kind": "upload", "sha256": "0" * 64, "filename": "a-1.0.tar.gz"}
    table: list[tuple[list[Any], str | None, str, int]] = [
        ([release], None, "release", 201),
        ([release], None, "dev/*", 403),
        (CALL["wanted"], None, "dev/unpinned", 201),  # type: ignore[list-item]
        (CALL["wanted"], None, "release", 403),  # type: ignore[list-item]
        ([upload], None, "dev/local", 400),  # it was never uploaded: the farm looked
        ([upload], None, "release", 403),
        ([release, upload], None, "release", 403),
        ([release], "dev/mine", "dev/mine", 201),
        ([release], "dev/mine", "release", 403),
        ([release], "nowhere", "*", 400),
    ]
    for wanted, channel, pattern, status in table:
        call = {**CALL, "wanted": wanted, "channel": channel}
        token = fresh.token("submit", channel=pattern)
        headers = {"authorization": f"Bearer {token}"}
        answer = send(fresh.app(), "POST", "/api/submissions", json=call, headers=headers)
        expected = 404 if status == 400 and wanted == [upload] else status
        assert answer.status_code == expected, (wanted, channel, pattern, answer.text)


def test_jobs_are_listed_and_retried_in_the_callers_channels_alone(fresh: Server) -> None:
    orders = [Order(work=work(channel=c), submitter="me") for c in (YOURS, "release", "dev/x_1")]
    others = fresh.farm.ledger.enqueue(orders)
    for job in others:
        fresh.farm.ledger.cancel(job, "to be seen")
    for pattern, seen in (
        (MINE, {fresh.job}),
        ("dev/*", {fresh.job, others[0], others[2]}),
        ("dev/x_*", {others[2]}),
        ("dev/x-*", set()),
        ("*", {fresh.job, *others}),
    ):
        token = fresh.token("submit", channel=pattern)
        listed = fresh.ask("GET /api/jobs", token=token).json()["jobs"]
        assert {job["id"] for job in listed} == seen, pattern
    answer = fresh.ask(RETRY, token=fresh.token("submit", channel=MINE)).json()
    assert answer["jobs"] == [fresh.job]
    states = {job["id"]: job["state"] for job in _all_jobs(fresh)}
    assert states == {fresh.job: "waiting", **dict.fromkeys(others, "cancelled")}


def _all_jobs(server: Server) -> list[dict[str, Any]]:
    token = server.token("read", channel="*")
    found: list[dict[str, Any]] = server.ask("GET /api/jobs", token=token).json()["jobs"]
    return found


def test_a_database_that_is_busy_for_too_long_is_no_fault_of_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("store.database._BUSY_MILLISECONDS", 100)
    settings = Settings(store=tmp_path / "store", cache=tmp_path / "cache")
    with open_farm(settings) as farm:
        server = Server(farm)
        token = server.token("admin", channel="*")
        other = sqlite3.connect(settings.store / "catalogue.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert refused(server.ask(RETRY, token=token), 503, "store-unreachable")
        other.execute("ROLLBACK")
        other.close()
        assert passed(server.ask(RETRY, token=token))


def test_a_local_run_is_seen_by_those_who_may_see_everything(fresh: Server) -> None:
    fresh.submission = fresh.farm.submissions.create("me", {"local": True})
    route = "GET /api/submissions/{submission_id}"
    assert fresh.ask(route, token=fresh.token("read", channel="dev/*")).status_code == 403
    assert fresh.ask(route, token=fresh.token("read", channel="*")).status_code == 200


def test_orders_are_in_the_log_with_the_token_that_gave_them(fresh: Server) -> None:
    token = fresh.token("admin", channel="*")
    assert fresh.ask(RETRY, token=token).status_code == 200
    assert fresh.ask("POST /api/jobs/{job_id}/cancel", token=token).status_code == 200
    assert fresh.ask("POST /api/jobs/{job_id}/cancel", token=token).status_code == 409
    assert fresh.ask("POST /api/submissions/{submission_id}/cancel", token=token).is_success
    assert fresh.ask("POST /api/submissions", token=token).status_code == 201
    rows = audit_rows(fresh.farm.store.database, AuditFilter(token=token[4:16]), 10)
    told = [(row.action, row.object.partition(" ")[0], row.result) for row in rows]
    assert told == [
        ("submit", "submission", "done"),
        ("cancel", "submission", "done"),
        ("cancel", "job", "wrong-state"),
        ("cancel", "job", "done"),
        ("retry", "package", "done"),
    ]
    assert {(row.who, row.address) for row in rows} == {("somebody", "127.0.0.1")}
    assert rows[0].detail == {
        "submitter": "somebody", "channels": ["dev/mine"], "things": 1, "targets": 1,
    }  # fmt: skip


def test_a_promotion_takes_the_right_to_read_the_source_too(server: Server) -> None:
    only_target = server.token("publish", channel="dev/mixed")
    answer = server.ask("POST /api/promote", token=only_target)
    assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")
    assert "read in the channel dev/mine" in answer.json()["message"]
