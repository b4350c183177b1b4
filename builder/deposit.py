"""Put a stream of bytes under a final name: whole, hashed on the way, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from store.digest import Sha256, copy_hashing


def deposit(
    source: BinaryIO, target: Path, accept: Callable[[Sha256, int], None] | None = None
) -> tuple[Path, Sha256]:
    """Write `source` to `target`, by way of a temporary name; give the path and the SHA-256.

    `accept` is told digest and size in bytes before the file gets its name, and raises to refuse
    it. Raises OSError when the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".incoming-")
    try:
        with os.fdopen(handle, "wb") as sink:
            sha256, size = copy_hashing(source, sink)
        if accept is not None:
            accept(sha256, size)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target, sha256
