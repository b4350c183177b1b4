"""``wheelfarm serve``: the store over HTTP."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import uvicorn
from starlette.applications import Starlette

from store.access import Actor, is_loopback
from store.accounts import Accounts
from store.database import Database
from store.delivery import Delivery
from store.disk import sweep
from store.errors import OutdatedError, StoreError, UsageError
from store.gate import Gate
from store.offer import Puller
from store.protocol import BoundedProtocol
from store.publish import Store
from store.resolve import DEFAULT_PORT
from store.server import create_app
from workers.cli.broker import celery_app, pokes
from workers.cli.options import keys_of
from workers.errors import SettingsError
from workers.farm.farm import Farm, farm_over, store_of
from workers.settings import Settings, load_settings

if TYPE_CHECKING:
    from workers.api.oidc import Minter

_LOG: Final = logging.getLogger("wheelfarm.serve")
_BACKLOG: Final = 512
_MOST_REQUESTS: Final = 800
"""At a time; a client that follows a submission counts for as long as it does."""
_SECONDS_BETWEEN_LOOKS: Final = 3.0
"""At the form of the catalogue, which a newer wheelfarm may change under a server."""
_SECONDS_TO_LEAVE: Final = 3
"""How long a server that stops waits for running requests; who follows comes back by itself."""


@click.command(name="serve")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--root-path",
    default="",
    metavar="PREFIX",
    help="The prefix that a proxy in front strips from paths, such as /wheels.",
)
@click.option("--no-access-log", is_flag=True, help="Leave single requests out of the log.")
@click.option("--no-farm", is_flag=True, help="Serve files only: nothing can be submitted.")
def command(
    folder: Path | None,
    host: str,
    port: int,
    root_path: str,
    *,
    no_access_log: bool,
    no_farm: bool,
) -> None:
    """Serve the store to pip, uv and other installers until Ctrl-C.

    Prints the URL on standard output once it takes connections; the log goes to standard error.
    Each channel and fingerprint is an index: /release/FINGERPRINT/simple/. The farm's API is
    under /api/, for `wheelfarm build --farm URL` and other clients; its form is in
    /api/openapi.json. A store that does not exist yet is made, unless --no-farm is given.

    On this machine alone, everybody may do everything until there is a token; on another address
    whoever has no token may read. See `wheelfarm token`, and docs/accounts.md.
    """
    settings = load_settings(store=folder)
    with closing(store_of(settings, create=not no_farm)) as store:
        delivery = delivery_of(store, settings)
        gate = gate_of(store, settings, host)
        listener = _listen(host, port)
        click.echo(_url(host, listener.getsockname()[1]))
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        server = _Server(
            database=store.database,
            listener=listener,
            root_path=root_path,
            access_log=not no_access_log,
        )
        run = server.run
        with _pulling(store, settings) as puller:
            if no_farm:
                app = create_app(store, delivery, gate, keys_of(settings), puller)
                run(app)
                return
            _say_who_may(gate)
            with pokes(celery_app(settings)) as poker:
                serve = _Serve(delivery=delivery, gate=gate, puller=puller)
                _run_farm(farm_over(store, settings, poker), serve, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serve:
    """How files are sent, who may ask, and who brings what is upstream."""

    delivery: Delivery
    gate: Gate
    puller: Puller | None


@contextmanager
def _pulling(store: Store, settings: Settings) -> Iterator[Puller | None]:
    """Who brings the wheels of an index upstream, where the settings say so."""
    if not settings.upstream.pull_through:
        yield None
        return
    # Imported here: most servers start without what fetches and judges wheels.
    from workers.pull import Pull  # noqa: PLC0415
    from workers.upstream import Upstream  # noqa: PLC0415

    pull = Pull(Upstream.of(store, settings, Actor(who="server (pull-through)")))
    try:
        yield pull
    finally:
        pull.close()


def _run_farm(farm: Farm, serve: _Serve, run: Callable[[Starlette], None]) -> None:
    """Serve the store and the farm's API, and plan what is submitted."""
    # Imported here: who serves files only starts without the API.
    from workers.api.app import create_server  # noqa: PLC0415
    from workers.farm.desk import FarmDesk  # noqa: PLC0415
    from workers.farm.planning import Planning  # noqa: PLC0415
    from workers.job import scratch_of  # noqa: PLC0415

    sweep(scratch_of(farm.settings.cache))  # what an upload left whose server was killed
    planning = Planning(farm)
    planning.start()
    try:
        desk = FarmDesk(farm, Actor(who="server"), planning.nudge)
        keys = keys_of(farm.settings)
        app = create_server(
            desk, serve.delivery, serve.gate, _minter(farm), keys, puller=serve.puller
        )
        run(app)
    finally:
        planning.stop()


def gate_of(store: Store, settings: Settings, host: str) -> Gate:
    """Who may do what with a server that listens on `host`."""
    return Gate(
        accounts=Accounts(store.database),
        anonymous=settings.server.anonymous,
        loopback=is_loopback(host),
        trusts=bool(settings.trusts),
    )


def _say_who_may(gate: Gate) -> None:
    """Say in the log when nobody can have anything built: it is easily overlooked."""
    if gate.anonymous == "all":
        _LOG.warning("[server] anonymous is all: whoever reaches this server may do everything")
    elif gate.trusts or gate.accounts.in_use():
        return
    elif not gate.loopback or gate.anonymous is not None:
        _LOG.warning(
            "there is no token yet, so nobody can submit or upload: `wheelfarm token create NAME "
            "--scope submit --channel '*'` makes one"
        )


def _minter(farm: Farm) -> Minter | None:
    if not farm.settings.trusts:
        return None
    try:
        from workers.api.oidc import Minter  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the settings have [[trust]] tables, and {error.name} is not installed",
            hint="pip install 'wheelfarm[oidc]'",
        ) from error
    return Minter(farm.store.database, farm.settings.trusts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """Serves an application until it is told to stop, or the catalogue has a newer form."""

    database: Database
    listener: socket.socket
    root_path: str
    access_log: bool

    def run(self, app: Starlette) -> None:
        """Serve. Raises OutdatedError when it stopped for the catalogue's form."""
        server = uvicorn.Server(self._config(app))
        over, found = threading.Event(), list[OutdatedError]()
        watch = threading.Thread(target=self._watch, args=(server, over, found))
        watch.start()
        try:
            server.run(sockets=[self.listener])
        finally:
            over.set()
            watch.join()
        if found:
            raise found[0]

    def _watch(
        self, server: uvicorn.Server, over: threading.Event, found: list[OutdatedError]
    ) -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                self.database.check_form()
            except OutdatedError as error:
                found.append(error)
                server.should_exit = True
                return
            except StoreError as error:
                _LOG.warning("the catalogue's form cannot be looked at: %s", error)

    def _config(self, app: Starlette) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            http=partial(BoundedProtocol, ready=app.state.ready),  # type: ignore[arg-type]
            loop="uvloop",
            ws="none",
            access_log=self.access_log,
            log_config=None,
            server_header=False,
            root_path=self.root_path.rstrip("/"),
            limit_concurrency=_MOST_REQUESTS,
            timeout_graceful_shutdown=_SECONDS_TO_LEAVE,
        )


def delivery_of(store: Store, settings: Settings) -> Delivery:
    """How files are sent. Raises SettingsError for a way that the store's blobs cannot go."""
    if settings.blob_redirects and store.blobs.local:
        raise SettingsError("needs blobs in a bucket", path="blob-redirects")
    if settings.accel_prefix and not store.blobs.local:
        raise SettingsError("needs blobs in the store's folder", path="accel-prefix")
    return Delivery(redirects=settings.blob_redirects, accel_prefix=settings.accel_prefix)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections already, so that whoever reads the URL can use it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="give another --port, or 0 for a free one",
        ) from error


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
