"""Real pip and real uv against the real server, and against an exported folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from uv import find_uv_bin

from store.channel import RELEASE
from store.export import export
from store.fingerprint import fingerprint_of
from store.publish import Store
from tests.forked import forked
from tests.store.wheelshop import (
    LINUX,
    MACOS,
    NATIVE_TAG,
    OTHER_LINUX,
    make_wheel,
    publish,
    read_wheel,
)

Install = Callable[..., "subprocess.CompletedProcess[str]"]
ABI = f"{NATIVE_TAG}-{NATIVE_TAG}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """A served store, an exported folder of it, and the server's log."""

    url: str
    folder: Path
    log: Path

    def index(self, page: str = "simple", fingerprint: str = fingerprint_of(LINUX)) -> str:
        return f"{self.url}release/{fingerprint}/{page}/"

    def requests(self) -> list[str]:
        """Every request so far, as the log has it: ``GET /path``."""
        lines = self.log.read_text().splitlines()
        return [
            line.split('"')[1].removesuffix(" HTTP/1.1") for line in lines if "HTTP/1.1" in line
        ]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """wheaty, which needs corny; another wheaty for another interpreter; a Mac's."""
    root = tmp_path_factory.mktemp("farm")
    store = Store.open(root / "store", verifier=read_wheel)
    publish(store, make_wheel(root, requires=("corny>=1",), members={"who.py": b"WHO = 'one'\n"}))
    publish(store, make_wheel(root, name="corny", tag="py3-none-any"))
    other = make_wheel(root, build="1_oth", members={"who.py": b"WHO = 'other'\n"})
    publish(store, other, target=OTHER_LINUX)
    mac = make_wheel(root, name="apple", tag=f"{ABI}-macosx_11_0_arm64")
    publish(store, mac, target=MACOS)
    export(store, RELEASE, fingerprint_of(LINUX), root / "out")
    store.close()
    with serving(root / "store", root / "log") as url:
        yield Farm(url=url, folder=root / "out", log=root / "log")


@contextmanager
def serving(store: Path, log: Path, **more: str) -> Iterator[str]:
    """The URL of a server over the store, as a process; its requests are in the log."""
    environment = {**os.environ, **more}
    with log.open("w") as log_file:
        server = subprocess.Popen(
            forked("serve", "--store", store, "--port", 0),
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            env=environment,
        )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))
    }
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"},
    )


def pip(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pip install into `target`."""
    quiet = ("--disable-pip-version-check", "--no-cache-dir")
    return _run(sys.executable, "-m", "pip", *quiet, "install", "--target", target, *arguments)


def uv(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Uv pip install into `target`, for the running Python, with a cache of its own."""
    where = ("--python", sys.executable, "--target", target, "--cache-dir", target.parent / "cache")
    return _run(find_uv_bin(), "pip", "install", *where, *arguments)


both = pytest.mark.parametrize("install", [pip, uv])


@both
def test_from_the_index_with_metadata_before_the_wheel(
    farm: Farm, tmp_path: Path, install: Install
) -> None:
    before = len(farm.requests())
    done = install(tmp_path / "site", "--index-url", farm.index(), "wheaty")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/who.py").read_text() == "WHO = 'one'\n"
    assert (tmp_path / "site/corny.py").is_file()
    asked = [line.rpartition("/")[2] for line in farm.requests()[before:]]
    wheel = f"wheaty-1.0-1_abc-{NATIVE_TAG}-none-any.whl"
    assert asked.index(f"{wheel}.metadata") < asked.index(wheel)
    assert "corny-1.0-1_abc-py3-none-any.whl.metadata" in asked


@both
def test_from_the_links_page(farm: Farm, tmp_path: Path, install: Install) -> None:
    options = ("--no-index", "--find-links", farm.index("links"))
    done = install(tmp_path / "site", *options, "wheaty")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/corny.py").is_file()


@both
def test_from_the_exported_folder(farm: Farm, tmp_path: Path, install: Install) -> None:
    done = install(tmp_path / "site", "--no-index", "--find-links", str(farm.folder), "wheaty")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/corny.py").is_file()


@both
def test_by_hash(farm: Farm, tmp_path: Path, install: Install) -> None:
    wheel = read_wheel(farm.folder / "corny-1.0-1_abc-py3-none-any.whl")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"corny==1.0 --hash=sha256:{wheel.sha256}\n")
    options = ("--index-url", farm.index(), "--require-hashes", "-r", str(requirements))
    done = install(tmp_path / "site", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/corny.py").is_file()


@both
def test_a_project_that_the_index_does_not_have_is_not_found(
    farm: Farm, tmp_path: Path, install: Install
) -> None:
    done = install(tmp_path / "site", "--index-url", farm.index(), "apple")
    assert done.returncode == 1
    assert "apple" in done.stderr
    assert not (tmp_path / "site/apple.py").exists()


def test_one_uv_cache_never_trades_wheels_between_two_fingerprints(
    farm: Farm, tmp_path: Path
) -> None:
    for site, target, who in (("a", LINUX, "one"), ("b", OTHER_LINUX, "other")):
        index = farm.index(fingerprint=fingerprint_of(target))
        done = uv(tmp_path / site, "--index-url", index, "--no-deps", "wheaty")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / site / "who.py").read_text() == f"WHO = '{who}'\n"


def test_pip_and_uv_on_linux_take_the_macs_wheel_for_a_mac(farm: Farm, tmp_path: Path) -> None:
    index = farm.index(fingerprint=fingerprint_of(MACOS))
    only = ("--only-binary", ":all:", "--no-deps", "--index-url", index)
    platform = ("--platform", "macosx_11_0_arm64", *only)
    done = pip(tmp_path / "pip", *platform, "apple")
    assert done.returncode == 0, done.stderr
    done = uv(tmp_path / "uv", "--python-platform", "aarch64-apple-darwin", *only, "apple")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pip/apple.py").is_file()
    assert (tmp_path / "uv/apple.py").is_file()
    assert "found linux" in farm.log.read_text()


def test_a_simple_tree_that_nginx_would_serve(farm: Farm, tmp_path: Path) -> None:
    """uv reads the exported `simple/` through any server of files; Python's own is one."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--directory", str(farm.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    url = server.stdout.readline().split("(")[1].split(")")[0]
    done = uv(tmp_path / "site", "--index-url", f"{url}simple/", "wheaty")
    server.terminate()
    server.communicate()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/corny.py").is_file()
