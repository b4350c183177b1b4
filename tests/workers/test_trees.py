"""Folders and commits are made into sdists and built: the command, real git, a real backend."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from builder.archive import ArchiveLimits, entries_of
from builder.errors import CheckoutError, TreeError
from builder.tree import NO_MOMENT, copy_tree
from store.digest import sha256_of_file
from store.publish import Store
from tests.workers.test_run import Farm
from workers.requirements import WantedCheckout, WantedFile, WantedTree
from workers.settings import Settings
from workers.trees import packed

WHEN = "2024-05-06T07:08:09Z"
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import io, pathlib, tarfile

def build_sdist(folder, config_settings=None):
    name = "leafy-1.0"
    path = pathlib.Path(folder, f"{name}.tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        for one in sorted(pathlib.Path(".").rglob("*")):
            if not {".git", "__pycache__"} & {*one.parts} and one.is_file():
                tar.add(one, f"{name}/{one}")
        info = b"Metadata-Version: 2.1\\nName: leafy\\nVersion: 1.0\\n"
        member = tarfile.TarInfo(f"{name}/PKG-INFO")
        member.size = len(info)
        tar.addfile(member, io.BytesIO(info))
    pathlib.Path("left-behind").touch()
    return path.name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    import zipfile, hashlib, base64
    name = "leafy-1.0-py3-none-any.whl"
    members = {
        "leafy.py": pathlib.Path("leafy.py").read_bytes(),
        "leafy-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\\nName: leafy\\nVersion: 1.0\\n",
        "leafy-1.0.dist-info/WHEEL":
            b"Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    rows = []
    for path, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    rows.append("leafy-1.0.dist-info/RECORD,,")
    members["leafy-1.0.dist-info/RECORD"] = "\\n".join(rows).encode() + b"\\n"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for path, data in members.items():
            wheel.writestr(path, data)
    return name
"""


def project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "leafy.py").write_text("WHAT = 'first'\n")
    return folder


def git(folder: Path, *argv: str) -> str:
    who = {"NAME": "a", "EMAIL": "a@example.org", "DATE": WHEN}
    names = {
        f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()
    }
    done = subprocess.run(
        ["git", *argv],
        cwd=folder,
        env=os.environ | names,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the project in a folder: a tag, a branch, and what came later."""
    folder = tmp_path / "repository"
    project(folder / "leaf")
    git(folder, "init", "--quiet", "--initial-branch", "trunk")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    git(folder, "branch", "side/line")
    (folder / "leaf" / "leafy.py").write_text("WHAT = 'second'\n")
    git(folder, "commit", "--quiet", "-am", "two")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=tmp_path / "store", cache=tmp_path / "cache")


def made(asked: WantedTree | WantedCheckout, settings: Settings) -> WantedFile:
    (found,) = packed([asked], settings, lambda _: None)
    assert isinstance(found, WantedFile)
    assert found.path.parent.name == sha256_of_file(found.path)
    assert list((settings.cache / "scratch").iterdir()) == []
    return found


def checkout(repository: Path, **more: str) -> WantedCheckout:
    said = {"subdirectory": "leaf", **more}
    return WantedCheckout(url=repository.as_uri(), **said)  # type: ignore[arg-type]


def times(sdist: Path) -> set[int]:
    return {entry.mtime for entry in entries_of(sdist, ArchiveLimits())}


def test_the_same_folder_gives_the_same_bytes_whatever_its_times(
    tmp_path: Path, settings: Settings
) -> None:
    tree = project(tmp_path / "leaf")
    first = made(WantedTree(path=tree), settings)
    os.utime(tree / "leafy.py", (1, 1))
    assert made(WantedTree(path=tree), settings).path == first.path
    assert times(first.path) == {NO_MOMENT}
    assert first.origin is not None
    assert (first.origin.kind, first.origin.location) == ("local", str(tree))
    assert not (tree / "left-behind").exists()
    (tree / "leafy.py").write_text("WHAT = 'other'\n")
    assert made(WantedTree(path=tree), settings).path != first.path


def test_what_is_no_part_of_a_project_is_not_copied(tmp_path: Path) -> None:
    tree = project(tmp_path / "leaf")
    for name in ("venv/pyvenv.cfg", "__pycache__/x.pyc", ".tox/y", "src/deep/node_modules/z"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    os.mkfifo(tree / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tree / "socket"))
    (tree / "link").symlink_to("leafy.py")
    copy = copy_tree(tree, tmp_path / "copy")
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*")) == [
        "backend.py", "leafy.py", "link", "pyproject.toml", "src", "src/deep",
    ]  # fmt: skip
    assert (copy / "link").is_symlink()


@pytest.mark.parametrize(
    ("revision", "what"),
    [
        (None, "second"),
        ("v1", "first"),
        ("side/line", "first"),
        ("trunk", "second"),
        ("%", "first"),
    ],
)
def test_a_branch_a_tag_or_a_commit_is_what_it_names(
    repository: Path, settings: Settings, revision: str | None, what: str
) -> None:
    first = git(repository, "rev-parse", "v1")
    asked = checkout(repository, **({"revision": revision.replace("%", first)} if revision else {}))
    found = made(asked, settings)
    commit = first if what == "first" else git(repository, "rev-parse", "trunk")
    assert found.origin is not None
    assert found.origin.kind == "vcs"
    assert found.origin.location == f"git+{repository.as_uri()}@{commit}#subdirectory=leaf"
    entry = [one for one in entries_of(found.path, ArchiveLimits()) if one.name.name == "leafy.py"]
    assert entry[0].mtime == 1_714_979_289


def test_submodules_come_with_it(tmp_path: Path, repository: Path, settings: Settings) -> None:
    inner = project(tmp_path / "inner")
    git(inner, "init", "--quiet")
    git(inner, "add", "-A")
    git(inner, "commit", "--quiet", "-m", "one")
    add = ["-c", "protocol.file.allow=always", "submodule", "add", "--quiet"]
    git(repository, *add, str(inner), "part")
    git(repository, "commit", "--quiet", "-m", "with a part")
    found = made(checkout(repository, subdirectory="part"), settings)
    assert found.path.name == "leafy-1.0.tar.gz"


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"revision": "nowhere"}, CheckoutError, "no revision 'nowhere'"),
        ({"revision": "0" * 40}, CheckoutError, "no revision '0000"),
        ({"subdirectory": "elsewhere"}, TreeError, "no folder 'elsewhere'"),
        ({"subdirectory": "out"}, TreeError, "no folder 'out'"),
        ({"subdirectory": ""}, TreeError, "neither pyproject.toml nor setup.py|no sdist"),
        ({"name": "grassy"}, TreeError, "it is leafy, not grassy"),
    ],
)
def test_what_a_repository_does_not_have_is_said(
    repository: Path,
    settings: Settings,
    change: dict[str, str],
    error: type[Exception],
    sentence: str,
) -> None:
    (repository / "out").symlink_to("/usr")
    git(repository, "add", "out")
    git(repository, "commit", "--quiet", "-m", "a way out")
    with pytest.raises(error, match=sentence):
        made(checkout(repository, **change), settings)
    assert not list(settings.cache.glob("sdists/*"))


def test_a_repository_that_is_not_there_is_said_without_the_password(settings: Settings) -> None:
    asked = WantedCheckout(url="https://me:secret@localhost:1/a/b")
    with pytest.raises(
        CheckoutError, match="git clone of https://me@localhost:1/a/b failed"
    ) as caught:
        made(asked, settings)
    assert "secret" not in str(caught.value)


def test_a_backend_that_gives_no_sdist_is_said_with_its_log(
    tmp_path: Path, settings: Settings
) -> None:
    tree = project(tmp_path / "leaf")
    (tree / "backend.py").write_text("def build_sdist(*_): raise RuntimeError('the moon')")
    with pytest.raises(TreeError, match=r"no sdist can be made of it.*the moon") as caught:
        made(WantedTree(path=tree), settings)
    assert caught.value.hint is not None
    assert "the moon" in Path(caught.value.hint.rpartition(" ")[2]).read_text()


@pytest.mark.slow
def test_a_commit_is_built_into_a_channel_of_its_own_and_is_a_hit_from_then_on(
    tmp_path: Path, repository: Path
) -> None:
    farm = Farm(tmp_path)
    line = f"leafy @ git+{repository.as_uri()}@v1#subdirectory=leaf"
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    for status in ("built", "hit"):
        code, (outcome,) = farm.build("-r", tmp_path / "requirements.txt")
        assert (code, outcome["status"], outcome["channel"]) == (0, status, "dev/vcs")
    with closing(Store.open(farm.store)) as store:
        (release,) = store.catalogue.releases_of(outcome["filename"])
        source = store.catalogue.provenance(release)["source"]
    assert isinstance(source, dict)
    commit = git(repository, "rev-parse", "v1")
    assert source["origin"] == {
        "kind": "vcs",
        "location": f"git+{repository.as_uri()}@{commit}#subdirectory=leaf",
        "pinned": False,
    }
    code, (outcome,) = farm.build(
        f"git+{repository.as_uri()}@v1#subdirectory=leaf", "--channel", "dev/me"
    )
    assert (code, outcome["channel"]) == (0, "dev/me")
    code, out, _ = farm.say(repository / "leaf", "--channel", "release")
    assert code == 1
    assert "may not enter the release channel" in out
