"""``wheelfarm lock``: what is chosen from an index, and that pip and uv install just that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.requirements import Requirement
from uv import find_uv_bin

from store.channel import RELEASE
from store.fingerprint import fingerprint_of
from store.publish import Store
from tests.forked import forked
from tests.store.wheelshop import LINUX, NATIVE_TAG, make_wheel, publish, read_wheel
from tests.workers.inside import wheelfarm
from workers.choose import Index, choose
from workers.errors import NoChoiceError, RequirementsError
from workers.requirements import read_requirements

F = fingerprint_of(LINUX)
WHEELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("base", "1.0", ()),
    ("base", "2.0", ()),
    ("base", "3.0rc1", ()),
    ("tool", "1.0", ("base<2",)),
    ("tool", "2.0", ("base>=2", 'extra-part; extra == "more"', 'absent; sys_platform == "win32"')),
    ("extra-part", "1.0", ("tool",)),
    ("old", "1.0", ("base==1.0",)),
    ("early", "1.0b2", ()),
    ("far", "1.0", ("elsewhere @ https://example.org/elsewhere-1.0-py3-none-any.whl",)),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("locks")
    with closing(Store.open(root / "store", verifier=read_wheel)) as store:
        for name, version, requires in WHEELS:
            wheel = make_wheel(root, name=name, version=version, requires=requires)
            publish(store, wheel)
    return root / "store"


@pytest.fixture
def index(place: Path) -> Iterator[Index]:
    with closing(Store.open(place)) as store:
        yield Index.of(store, RELEASE, F, LINUX)


def chosen(index: Index, *wanted: str) -> list[str]:
    found = choose(index, map(Requirement, wanted))
    return [f"{one.release.name} {one.release.version}" for one in found]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["base"], ["base 2.0"]),
        (["base<2"], ["base 1.0"]),
        (["base>=3.0rc1"], ["base 3.0rc1"]),
        (["early"], ["early 1.0b2"]),
        (["tool"], ["base 2.0", "tool 2.0"]),
        (["tool", "old"], ["base 1.0", "old 1.0", "tool 1.0"]),
        (["tool[more]"], ["base 2.0", "extra-part 1.0", "tool 2.0"]),
        (["Tool[MORE]>1", "base"], ["base 2.0", "extra-part 1.0", "tool 2.0"]),
        (['absent; sys_platform == "darwin"'], []),
        ([], []),
    ],
)
def test_the_newest_that_fits_all(index: Index, wanted: list[str], found: list[str]) -> None:
    assert chosen(index, *wanted) == found


def test_each_names_what_it_needs(index: Index) -> None:
    needs = {one.release.name: one.needs for one in choose(index, [Requirement("tool[more]")])}
    assert needs == {"base": (), "extra-part": ("tool",), "tool": ("base", "extra-part")}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["tool>1", "old"], "base==1.0 (asked for by old 1.0)"),
        (["base>4"], "base>4 (asked for by you)"),
        (["nowhere"], "nowhere (asked for by you)"),
        (["far"], "elsewhere @ https://example.org"),
    ],
)
def test_what_does_not_fit_is_told(index: Index, wanted: list[str], said: str) -> None:
    with pytest.raises(NoChoiceError) as told:
        chosen(index, *wanted)
    assert said in told.value.message
    assert "the index has" in str(told.value.hint)


def test_a_yanked_one_is_for_who_pins_it(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "store", verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path, name="base", version="1.0"))
        bad = publish(store, make_wheel(tmp_path, name="base", version="2.0"))
        with store.database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE releases SET yanked = 'bad' WHERE id = {bad.id}")
        index = Index.of(store, RELEASE, F, LINUX)
        assert chosen(index, "base") == ["base 1.0"]
        assert chosen(index, "base==2.0") == ["base 2.0"]


def test_a_wheel_for_a_later_python_is_passed_over(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "store", verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path, name="base", version="1.0"))
        later = make_wheel(tmp_path, name="base", version="2.0", requires_python=">=3.99")
        publish(store, later)
        assert chosen(Index.of(store, RELEASE, F, LINUX), "base") == ["base 1.0"]


def test_requirements_that_need_not_be_exact(tmp_path: Path) -> None:
    (tmp_path / "more.in").write_text("tool[more] ~= 2.0  # why\n")
    (tmp_path / "all.in").write_text("base >= 1, \\\n  < 3\n-r more.in\n")
    found = read_requirements(["old"], [tmp_path / "all.in"])
    assert [*map(str, found)] == ["old", "base<3,>=1", "tool[more]~=2.0"]
    (tmp_path / "bad.in").write_text("base\n--index-url http://127.0.0.1/\n")
    with pytest.raises(RequirementsError, match=r"bad\.in:2: unsupported option --index-url"):
        read_requirements([], [tmp_path / "bad.in"])


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "WHEELFARM_"))}
    clean |= {"PYTHONPATH": os.pathsep.join(sys.path), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [*map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd, env={**clean, "UV_NO_CONFIG": "1"},
    )  # fmt: skip


def lock(place: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return wheelfarm("lock", "--store", place, "--fingerprint", F, *arguments, folder=folder)


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    command = forked("serve", "--no-farm", "--store", place, "--port", 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def test_pip_and_uv_install_from_both_files(place: Path, server: str, tmp_path: Path) -> None:
    done = lock(place, tmp_path, "tool", "--server", server)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "pylock.toml").read_text()
    parsed = Pylock.from_dict(tomllib.loads(text))
    assert [str(package.name) for package in parsed.packages] == ["base", "tool"]
    names = {name: tmp_path / name for name in ("uv-lock", "uv-hashes", "pip-hashes", "pip-lock")}
    uv = (find_uv_bin(), "pip", "install", "--python", sys.executable)
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
    hashes = ("--require-hashes", "-r", "requirements-locked.txt", "--no-deps")
    for name, command in {
        "uv-lock": (*uv, "-r", "pylock.toml"),
        "uv-hashes": (*uv, *hashes),
        "pip-hashes": (*pip, "--no-cache-dir", *hashes),
        "pip-lock": (*pip, "--no-cache-dir", "-r", "pylock.toml"),
    }.items():
        cache = ("--cache-dir", tmp_path / f"cache-{name}") if name.startswith("uv") else ()
        done = run(*command, *cache, "--target", names[name], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        installed = sorted(path.name for path in names[name].glob("*.dist-info"))
        assert installed == ["base-2.0.dist-info", "tool-2.0.dist-info"]


def test_other_bytes_than_the_locked_ones_are_not_installed(
    place: Path, server: str, tmp_path: Path
) -> None:
    assert lock(place, tmp_path, "base", "--server", server).returncode == 0
    path = tmp_path / "requirements-locked.txt"
    head, _, digest = path.read_text().strip().rpartition(":")
    path.write_text(f"{head}:{'0' * len(digest)}\n")
    pip = (sys.executable, "-m", "pip", "install", "--no-cache-dir", "--target", "site")
    done = run(*pip, "--require-hashes", "-r", path, cwd=tmp_path)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_everything_and_the_same_again(place: Path, tmp_path: Path) -> None:
    outputs = ("-o", "pylock.linux.toml", "-o", "all.txt", "--json")
    named = ("base", "tool", "extra-part", "early")
    first = lock(place, tmp_path, *named, *outputs)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["files"] == ["pylock.linux.toml", "all.txt"]
    assert [one["name"] for one in told["packages"]] == ["base", "early", "extra-part", "tool"]
    before = {name: (tmp_path / name).read_bytes() for name in told["files"]}
    assert lock(place, tmp_path, *named, *outputs).returncode == 0
    assert {name: (tmp_path / name).read_bytes() for name in told["files"]} == before
    assert f"-{NATIVE_TAG}-none-any.whl" in before["pylock.linux.toml"].decode()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("nowhere",), 1, "error[no-choice]: no set of wheels fits nowhere"),
        (("base", "--fingerprint", F.replace("cp3", "cp2")), 2, "error["),
        (("base", "--server", "ftp://host"), 2, "error[usage]: not the URL of a server"),
        (("=1",), 2, "error[bad-requirements]"),
        (("-r", "absent.in"), 2, "error[bad-requirements]"),
        (("far", "base"), 1, "elsewhere @ https://example.org"),
        ((), 1, "error[no-choice]"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_writes_nothing(
    place: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = lock(place, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_file_of_something_else_is_left_alone(place: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "requirements-locked.txt"
    theirs.write_text("base==1.0\n")
    done = lock(place, tmp_path, "base")
    assert done.returncode == 2
    assert "was not made by `wheelfarm lock`" in done.stderr
    assert theirs.read_text() == "base==1.0\n"
