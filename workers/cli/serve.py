"""``wheelfarm serve``: the store over HTTP."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Final

import click
import uvicorn

from store.delivery import Delivery
from store.errors import UsageError
from store.publish import Store
from store.resolve import DEFAULT_PORT
from store.server import create_app
from workers.cli.options import open_store
from workers.errors import SettingsError
from workers.settings import Settings, load_settings

_BACKLOG: Final = 512
_MOST_REQUESTS: Final = 256


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
def command(folder: Path | None, host: str, port: int, root_path: str) -> None:
    """Serve the store to pip, uv and other installers until Ctrl-C.

    Prints the URL on standard output once it takes connections; the log goes to standard error.
    Each channel and fingerprint is an index: /release/FINGERPRINT/simple/.
    """
    store = open_store(folder)
    delivery = delivery_of(store, load_settings())
    listener = _listen(host, port)
    click.echo(_url(host, listener.getsockname()[1]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = uvicorn.Config(
        create_app(store, delivery),
        http="h11",
        ws="none",
        log_config=None,
        server_header=False,
        root_path=root_path.rstrip("/"),
        limit_concurrency=_MOST_REQUESTS,
    )
    uvicorn.Server(config).run(sockets=[listener])
    store.close()


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
