"""An sdist that a client sends: hashed as it comes in, and kept whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

from starlette.concurrency import run_in_threadpool

from builder.sdist import sdist_name
from store.digest import Sha256
from store.disk import disk_trouble
from store.errors import NotProvenError
from workers.farm.farm import Farm

_WRITE_AT: Final = 1 << 20


async def receive_sdist(
    farm: Farm, sha256: Sha256, filename: str, body: AsyncIterator[bytes]
) -> None:
    """Keep `body` as the sdist of that digest.

    Raises SdistError for a name that is not of an sdist, NotProvenError for other bytes,
    StoreError for trouble with the disk. What was sent by half is gone.
    """
    sdist_name(filename)
    incoming = farm.settings.cache / "incoming"
    with disk_trouble("write to", incoming):
        incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=incoming) as file:
            found = await _write(body, file)
            _compare(filename, sha256, found)
            await run_in_threadpool(farm.store.keep, Path(file.name))


async def _write(body: AsyncIterator[bytes], file: IO[bytes]) -> str:
    """Write `body` to `file`, off the event loop; give its SHA-256."""
    digest, pending = hashlib.sha256(), bytearray()

    def flush() -> None:
        digest.update(pending)
        file.write(pending)
        file.flush()
        pending.clear()

    async for chunk in body:
        pending += chunk
        if len(pending) >= _WRITE_AT:
            await run_in_threadpool(flush)
    await run_in_threadpool(flush)
    return digest.hexdigest()


def _compare(filename: str, told: Sha256, found: str) -> None:
    if found != told:
        raise NotProvenError(
            f"{filename}: what was sent has the SHA-256 {found[:12]}…, not {told[:12]}…",
            hint="the file changed meanwhile, or was cut on the way: send it again",
        )
