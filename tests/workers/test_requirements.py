from pathlib import Path

import pytest

from store.digest import Sha256
from workers.errors import RequirementsError
from workers.requirements import (
    WantedCheckout,
    WantedFile,
    WantedRelease,
    WantedTree,
    read_wanted,
)

A, B = "a" * 64, "b" * 64


def write(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_pip_compiled_file_is_read_with_its_hashes(tmp_path: Path) -> None:
    text = f"""\
# made by a compiler
MarkupSafe==3.0.2 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via jinja2
six==1.17.0 ; python_version < "3.12"  # why not
"""
    markupsafe, six = read_wanted([], [write(tmp_path, text)])
    assert isinstance(markupsafe, WantedRelease)
    assert (markupsafe.name, markupsafe.version) == ("markupsafe", "3.0.2")
    assert markupsafe.hashes == {A, B}
    assert markupsafe.place.endswith("requirements.txt:2")
    assert isinstance(six, WantedRelease)
    assert six.hashes == frozenset()
    assert str(six.marker) == 'python_version < "3.12"'


def test_files_include_files_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "six==1.17.0\n./local-1.0.tar.gz", "more/base.txt")
    top = write(tmp_path, "-r more/base.txt\n")
    six, local = read_wanted([], [top])
    assert isinstance(six, WantedRelease)
    assert local == WantedFile(path=tmp_path / "more" / "local-1.0.tar.gz")


def test_arguments_are_names_or_sdists_and_come_once() -> None:
    wanted = read_wanted(["six==1.17.0", "dist/x-1.tar.gz", "six==1.17.0"], [])
    assert wanted == (
        WantedRelease(name="six", version="1.17.0"),
        WantedFile(path=Path("dist/x-1.tar.gz")),
    )


def test_a_pylock_gives_the_hash_of_the_sdist(tmp_path: Path) -> None:
    text = f"""\
lock-version = "1.0"
created-by = "a test"
[[packages]]
name = "six"
version = "1.17.0"
sdist = {{ path = "six-1.17.0.tar.gz", hashes = {{ sha256 = "{A}" }} }}
"""
    (six,) = read_wanted([], [write(tmp_path, text, "pylock.toml")])
    assert isinstance(six, WantedRelease)
    assert six == WantedRelease(name="six", version="1.17.0", hashes=frozenset([Sha256(A)]))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("six\n", "six is no exact version"),
        ("six>=1\n", "six>=1 is no exact version"),
        ("six==1.*\n", "is no exact version"),
        ("\n\nsix==1,<2\n", ":3: six"),
        ("six @ https://example.org/six.tar.gz\n", "is no exact version"),
        ("six==1 --hash=md5:abc\n", "not a SHA-256 digest"),
        ("six==1 --global-option=x\n", "unsupported option --global-option=x"),
        ("--index-url https://example.org\n", "unsupported option --index-url"),
        ("-e .\n", "unsupported option -e"),
        ("-r missing.txt\n", "cannot be read"),
        ("-r requirements.txt\n", "too deeply"),
        ("==1\n", "not a requirement"),
    ],
)
def test_what_is_not_exact_is_refused_with_its_place(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(RequirementsError, match=r"\.txt") as caught:
        read_wanted([], [write(tmp_path, text)])
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", ["lock-version = 1", "[[[", 'lock-version = "1.0"'])
def test_a_broken_lock_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequirementsError, match="not a valid lock"):
        read_wanted([], [write(tmp_path, text, "pylock.toml")])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequirementsError, match="not UTF-8"):
        read_wanted([], [path])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git+https://example.org/a/b.git", {"url": "https://example.org/a/b.git"}),
        (
            "leafy[x] @ git+ssh://git@example.org/a/b@side/line#subdirectory=py/leaf",
            {
                "url": "ssh://git@example.org/a/b", "revision": "side/line",
                "subdirectory": "py/leaf", "name": "leafy",
            },
        ),
        ("git+file:///b@v1#egg=Leaf.y", {"url": "file:///b", "revision": "v1", "name": "leaf-y"}),
    ],
)  # fmt: skip
def test_a_commit_is_named_as_pip_names_it(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    (found,) = read_wanted([text], [write(tmp_path, f"{text}  # why\n")])
    assert found == WantedCheckout(**expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hg+https://example.org/a", "not a commit that can be fetched"),
        ("git+http://example.org/a", "not a commit that can be fetched"),
        ("git+https://me:secret@", "not a commit that can be fetched: 'git"),
        ("git+ext::sh -c x", "not a commit that can be fetched"),
        ("git+https://example.org/a@-x", "not a revision: '-x'"),
        ("git+https://example.org/a@" + "x" * 300, "not a revision"),
        ("git+https://example.org/a#subdirectory=../b", "not a folder of the repository"),
        ('a @ git+https://example.org/a ; python_version < "3"', "takes no marker"),
        ("git+https://example.org/a --hash=sha256:" + A, "takes no options"),
    ],
)
def test_what_is_no_commit_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(RequirementsError, match=sentence) as caught:
        read_wanted([], [write(tmp_path, f"six==1.17.0\n{text}\n")])
    assert "requirements.txt:2" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_folder_is_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaf").mkdir()
    monkeypatch.chdir(tmp_path)
    found = read_wanted([".", "./leaf", "./bark"], [])
    assert found == (
        WantedTree(path=Path()),
        WantedTree(path=Path("leaf")),
        WantedFile(path=Path("bark")),
    )
    (found_here,) = read_wanted([], [write(tmp_path, "./leaf\n")])
    assert found_here == WantedTree(path=tmp_path / "leaf")


def test_a_lock_may_name_a_commit(tmp_path: Path) -> None:
    text = f"""\
lock-version = "1.0"
created-by = "a test"
[[packages]]
name = "leafy"
[packages.vcs]
type = "git"
url = "https://example.org/a"
commit-id = "{"c" * 40}"
subdirectory = "leaf"
"""
    (found,) = read_wanted([], [write(tmp_path, text, "pylock.toml")])
    assert found == WantedCheckout(
        url="https://example.org/a",
        revision="c" * 40,
        subdirectory="leaf",
        name="leafy",  # type: ignore[arg-type]
    )
