"""Names, metadata files, RECORD, and the judge itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.tags import Tag

from builder.checks.check import Check, Ruling
from builder.checks.context import Context
from builder.judge import judge
from builder.wheel import OpenedWheel
from store.verdict import Finding
from tests.builder.forge import errors, metadata, names, only, record, wheel, write_zip

_NAME = "p-1.0-py3-none-any.whl"
_INFO = "p-1.0.dist-info"
_WHEEL = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _raw(folder: Path, members: dict[str, bytes], name: str = _NAME) -> Path:
    path = folder / name
    write_zip(path, members)
    return path


def _parts(**changed: bytes) -> dict[str, bytes]:
    """The parts of a sound wheel, some of its metadata files replaced; RECORD made last."""
    parts = {
        "p/__init__.py": b"",
        f"{_INFO}/METADATA": changed.get("METADATA", metadata("p", "1.0")),
        f"{_INFO}/WHEEL": changed.get("WHEEL", _WHEEL),
    }
    return {**parts, f"{_INFO}/RECORD": record(parts, _INFO)}


def test_the_parts_make_a_sound_wheel(tmp_path: Path) -> None:
    assert judge(_raw(tmp_path, _parts())).verdict == "accept"


@pytest.mark.parametrize(
    "name",
    [
        "p-1.0.whl",
        "p-1.0-py3-none.whl",
        "p-one-py3-none-any.whl",
        "p-1.0-py3-none-macosx_11.whl",
        "p-1.0-py3-none-linux_\x1b[31m.whl",
        "p-1.0-" + ".".join(f"py{n}" for n in range(400)) + "-none-any.zip",
        "p-1.0-py3-none-any.zip",
    ],
)
def test_a_malformed_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name[:200]
    write_zip(path, _parts())
    assert only(judge(path), "wheel-filename").severity == "error"


@pytest.mark.parametrize("lost", ["METADATA", "WHEEL", "RECORD"])
def test_a_metadata_file_that_is_not_there_is_refused(tmp_path: Path, lost: str) -> None:
    parts = _parts()
    del parts[f"{_INFO}/{lost}"]
    judgement = judge(_raw(tmp_path, parts))
    assert (judgement.verdict, only(judgement, "dist-info").member) == ("reject", f"{_INFO}/{lost}")


def test_two_dist_infos_are_refused(tmp_path: Path) -> None:
    parts = {**_parts(), "q-1.0.dist-info/METADATA": metadata("q", "1.0")}
    assert errors(judge(_raw(tmp_path, parts))) == {"dist-info"}


def test_metadata_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert errors(judge(_raw(tmp_path, _parts(WHEEL=b"\xff\xfe")))) == {"dist-info"}


@pytest.mark.parametrize(("name", "version"), [("q", "1.0"), ("p", "1.1"), ("p", "no version")])
def test_metadata_of_another_project_is_refused(tmp_path: Path, name: str, version: str) -> None:
    judgement = judge(_raw(tmp_path, _parts(METADATA=metadata(name, version))))
    assert judgement.verdict == "reject"
    assert only(judgement, "identity").member == f"{_INFO}/METADATA"


def test_a_renamed_wheel_is_refused(tmp_path: Path) -> None:
    judgement = judge(_raw(tmp_path, _parts(), "q-2.0-py3-none-any.whl"))
    assert judgement.verdict == "reject"
    assert errors(judgement) == {"identity"}


@pytest.mark.parametrize("text", [b"Wheel-Version: 2.0\n", b"", b"Wheel-Version: 1.0\n" * 2])
def test_another_wheel_version_is_refused(tmp_path: Path, text: bytes) -> None:
    rest = b"Root-Is-Purelib: true\nTag: py3-none-any\n"
    judgement = judge(_raw(tmp_path, _parts(WHEEL=text + rest)))
    assert (judgement.verdict, errors(judgement)) == ("reject", {"wheel-version"})


@pytest.mark.parametrize(
    "tags", [[], ["py2.py3-none-any"], ["py3-none-any"], ["py2-none-any"] * 2 + ["py3-none-any"]]
)
def test_tag_lines_other_than_the_expanded_name_are_mended(tmp_path: Path, tags: list[str]) -> None:
    path = wheel(tmp_path, "p-1.0-py2.py3-none-any.whl", {"p/__init__.py": b""}, tags=tags)
    judgement = judge(path)
    assert (judgement.verdict, errors(judgement)) == ("retag", {"wheel-tags"})
    assert names(judgement) == {"py2-none-any", "py3-none-any"}
    assert only(judgement, "wheel-tags").evidence["stated"] == sorted(tags)


def test_a_build_line_of_another_build_is_mended(tmp_path: Path) -> None:
    text = _WHEEL.decode() + "Build: 7\n"
    path = wheel(tmp_path, "p-1.0-3-py3-none-any.whl", {}, wheel_text=text)
    assert judge(path).verdict == "retag"
    assert only(judge(path), "wheel-tags").evidence["claimed"] == ["3"]


@pytest.mark.parametrize("line", [b"", b"Root-Is-Purelib: perhaps\n"])
def test_root_is_purelib_must_be_said(tmp_path: Path, line: bytes) -> None:
    text = b"Wheel-Version: 1.0\nTag: py3-none-any\n" + line
    judgement = judge(_raw(tmp_path, _parts(WHEEL=text)))
    assert (judgement.verdict, errors(judgement)) == ("retag", {"root-is-purelib"})


def _recorded(folder: Path, old: bytes, new: bytes) -> Path:
    parts = _parts()
    assert old in parts[f"{_INFO}/RECORD"]
    parts[f"{_INFO}/RECORD"] = parts[f"{_INFO}/RECORD"].replace(old, new)
    return _raw(folder, parts)


@pytest.mark.parametrize(
    ("old", "new", "member"),
    [
        (b"sha256=47DEQ", b"sha256=47DEX", "p/__init__.py"),
        (b",0\n", b",1\n", "p/__init__.py"),
        (b"p/__init__.py", b"p/__other__.py", "p/__init__.py"),
        (b"sha256=47DEQ", b"md5=47DEQ", "p/__init__.py"),
        (b"p-1.0.dist-info/RECORD,,\n", b"p-1.0.dist-info/RECORD,,\n" * 2, f"{_INFO}/RECORD"),
    ],
)
def test_a_record_that_is_not_true_is_refused(
    tmp_path: Path, old: bytes, new: bytes, member: str
) -> None:
    judgement = judge(_recorded(tmp_path, old, new))
    assert (judgement.verdict, errors(judgement)) == ("reject", {"record"})
    assert member in {finding.member for finding in judgement.findings}


def test_a_record_with_another_good_hash_is_true(tmp_path: Path) -> None:
    import base64
    import hashlib

    digest = base64.urlsafe_b64encode(hashlib.sha512(b"").digest()).rstrip(b"=")
    empty = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).rstrip(b"=")
    path = _recorded(tmp_path, b"sha256=" + empty, b"sha512=" + digest)
    assert judge(path).verdict == "accept"
    assert judge(_recorded(tmp_path, b"sha256=" + empty, b"sha512=AAAA")).verdict == "reject"


def test_a_file_that_record_does_not_list_is_refused(tmp_path: Path) -> None:
    judgement = judge(wheel(tmp_path, _NAME, {}, extra={"p/hidden.py": b"x"}))
    finding = only(judgement, "record")
    assert (judgement.verdict, finding.member) == ("reject", "p/hidden.py")


def test_a_row_without_its_file_is_refused(tmp_path: Path) -> None:
    path = _recorded(tmp_path, b"p/__init__.py,", b"p/gone.py,sha256=x,1\np/__init__.py,")
    assert only(judge(path), "record").member == "p/gone.py"


@pytest.mark.parametrize(("one", "two"), [("p/Data", "p/data"), ("p/\u00e9", "p/e\u0301")])
def test_paths_that_collide_elsewhere_are_a_warning(tmp_path: Path, one: str, two: str) -> None:
    judgement = judge(wheel(tmp_path, _NAME, {one: b"1", two: b"2"}))
    finding = only(judgement, "path-collision")
    assert (judgement.verdict, finding.severity, finding.member) == ("accept", "warning", two)


def test_a_check_that_crashes_is_a_failed_check(tmp_path: Path) -> None:
    def find(_wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
        yield from (1 // zero for zero in [0])  # type: ignore[misc]

    def narrow(_wheel: OpenedWheel, _tag: Tag, _context: Context) -> Ruling:
        raise KeyError("lost")

    path = wheel(tmp_path, _NAME, {})
    for check in (
        Check(code="boom", title="Boom", find=find, mended=True),
        Check(code="boom", title="Boom", narrow=narrow),
    ):
        judgement = judge(path, checks=(check,))
        assert judgement.verdict == "reject"
        assert only(judgement, "check-crashed").evidence["check"] == "boom"


def test_no_check_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one check"):
        judge(wheel(tmp_path, _NAME, {}), checks=())


def test_tags_that_no_one_name_can_say_are_let_go(tmp_path: Path) -> None:
    def narrow(_wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
        lost = (tag.interpreter, tag.platform) == ("cp312", "linux_i686")
        return Ruling(tags=frozenset() if lost else frozenset({tag}))

    path = wheel(tmp_path, "p-1.0-cp311.cp312-none-linux_i686.linux_x86_64.whl", {})
    judgement = judge(path, checks=(Check(code="half", title="Half", narrow=narrow),))
    assert judgement.verdict == "retag"
    assert len(judgement.tags) == 2
    dropped = only(judgement, "tag-set").evidence["dropped"]
    assert isinstance(dropped, list)
    assert not set(dropped) & names(judgement)
