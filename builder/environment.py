"""The whole environment of a foreign program: what is named here, and nothing else.

Hooks get none of the caller's variables, so no secret, no proxy and no pip or uv setting. uv gets
those that say where the index is and how to reach it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Where hooks find compilers. Not the caller's PATH, which differs from shell to shell; a Recipe
may set another (``env = { PATH = … }``), and it is in the BuildKey then."""

# A cache, certificates, proxies, and the index. Nothing that changes what uv chooses or how it
# installs, such as UV_PRERELEASE or UV_LINK_MODE: that is for the farm to say.
_UV_KEEPS: Final = frozenset({
    "HOME", "NETRC", "SSL_CERT_DIR", "SSL_CERT_FILE", "SSL_CLIENT_CERT", "TMPDIR",
    "UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_TIMEOUT",
    "UV_INDEX", "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_NATIVE_TLS",
    "UV_OFFLINE", "UV_SYSTEM_CERTS", "XDG_CACHE_HOME",
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "all_proxy", "https_proxy", "http_proxy", "no_proxy",
})  # fmt: skip


def hook_environment(
    *,
    scratch: Path,
    bin_folder: Path,
    source_date_epoch: int,
    toolchain: Mapping[str, str],
    recipe: Mapping[str, str],
) -> dict[str, str]:
    """Variables for the backend's hooks. The Recipe's come last and win, except over PATH's head.

    PYTHONHASHSEED is fixed because sets of names reach generated sources in hash order.
    """
    fixed = {
        "HOME": str(_folder(scratch / "home")),
        "TMPDIR": str(_folder(scratch / "tmp")),
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(source_date_epoch),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    merged = {**fixed, **toolchain, **recipe}
    merged["PATH"] = f"{bin_folder}{os.pathsep}{merged['PATH']}"
    return merged


def uv_environment(scratch: Path) -> dict[str, str]:
    """Variables for uv: those of the caller that say where the index is, and a PATH."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in _UV_KEEPS or (key.startswith("UV_INDEX_") and key.endswith(_CREDENTIALS))
    }
    if (bundle := os.environ.get("PIP_CERT")) and "SSL_CERT_FILE" not in kept:
        kept["SSL_CERT_FILE"] = bundle
    kept.setdefault("HOME", str(scratch))
    return kept | {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}


_CREDENTIALS: Final = ("_USERNAME", "_PASSWORD")


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
