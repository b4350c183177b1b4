"""What the clients of disowned wheels have to drop: no index's news reaches their caches."""

from __future__ import annotations

from collections.abc import Sequence


def cleaning(projects: Sequence[str]) -> list[tuple[str, str]]:
    """(command, what it drops) for a machine that installed wheels of these projects.

    uv keeps a wheel by its project, and environments of its own (``uvx``, scripts) apart from it:
    only `prune` drops those. pip keeps wheels that it built by their project; what it downloaded
    is kept by address, and read only where an index still lists that address.
    """
    if not projects:
        return []
    names = " ".join(projects)
    escaped = [name.replace("-", "_") for name in projects]
    return [
        (f"uv cache clean {names}", "uv: downloaded, built and unpacked wheels"),
        ("uv cache prune", "uv: environments that uvx and scripts ran in"),
        *((f"pip cache remove {name}", "pip: wheels that it built itself") for name in escaped),
        ("pip cache purge", "pip: whatever it downloaded; drops all, and none of it is used"),
        (
            f"uv pip install {' '.join(f'--reinstall-package {name}' for name in projects)} "
            "-r requirements.txt",
            "environments that have them installed",
        ),
    ]
