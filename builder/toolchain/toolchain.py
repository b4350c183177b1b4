"""What a build needs to know of the compiler and headers it is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from store.digest import JSON


class Toolchain(Protocol):
    """A compiler, headers and a view of the target's interpreter, for one Target.

    Native or cross, a build treats them alike.
    """

    @property
    def python(self) -> Path:
        """The interpreter that runs the backend; of the target's own X.Y."""
        ...

    @property
    def libpython_folder(self) -> Path | None:
        """Where the target's libpython lies, None where it has none or every loader finds it."""
        ...

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What enters the BuildKey: kind, compiler, the digest of the toolchain folder."""
        ...

    def environment(self, scratch: Path) -> dict[str, str]:
        """Variables for the backend hooks. May put private copies of its caches in `scratch`."""
        ...

    def config_settings(self, backend: str) -> dict[str, str]:
        """Config settings (PEP 517) that this backend needs, such as meson-python's cross file."""
        ...

    def attempted_modules(self, scratch: Path, log: Path) -> frozenset[str]:
        """Dotted names of the extension modules that the build tried to make.

        Read from the compiler log in `scratch` or from the build's own log; empty when neither
        shows any. What was attempted and is not in the wheel was lost on the way.
        """
        ...
