"""Publishing: what the store takes, what it refuses, and what a crash leaves behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from store.channel import RELEASE, Channel
from store.digest import sha256_of, sha256_of_file
from store.errors import (
    MalformedError,
    NameTakenError,
    NotAStoreError,
    NotProvenError,
    PolicyError,
    StoreError,
    WheelfarmError,
)
from store.fingerprint import fingerprint_of
from store.provenance import Origin
from store.publish import Store
from store.schema import files
from store.verdict import VerifiedWheel
from tests.store import wheelshop
from tests.store.wheelshop import (
    LINUX,
    MACOS,
    make_wheel,
    provenance_for,
    publish,
    read_wheel,
)

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src/wheaty", pinned=False)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_release_says_what_is_in_the_bytes(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    release = publish(store, path)
    assert (release.channel, release.fingerprint) == (RELEASE, fingerprint_of(LINUX))
    assert (release.filename, release.sha256) == (path.name, sha256_of_file(path))
    assert (release.name, release.version, release.size) == ("wheaty", "1.0", path.stat().st_size)
    assert release.requires_python == ">=3.8"
    assert release.tags == read_wheel(path).tags
    assert release.published_at.utcoffset() is not None
    assert release.yanked is None
    assert store.blobs.path(release.sha256).read_bytes() == path.read_bytes()
    assert store.blobs.read(release.metadata_sha256) == read_wheel(path).metadata


def test_the_log_is_kept(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    record = store.catalogue.provenance(release)
    log = record["log"]
    assert isinstance(log, dict)
    assert b"building wheaty" in store.blobs.read(log["sha256"])


def test_publishing_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    first = publish(store, path)
    files = {path: path.stat().st_ino for path in _files(tmp_path / "store" / "blobs")}
    assert publish(store, path) == first
    assert {p: p.stat().st_ino for p in _files(tmp_path / "store" / "blobs")} == files
    assert store.catalogue.releases_of(first.filename) == [first]


def test_the_first_release_of_a_build_stands_and_the_log_says_so(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = publish(store, make_wheel(tmp_path))
    other = make_wheel(tmp_path, build="1_def", members={"new.py": b"x = 1\n"})
    with caplog.at_level(logging.WARNING):
        assert publish(store, other) == first
    assert "its first release wheaty-1.0-1_abc" in caplog.text
    assert not store.catalogue.releases_of(other.name)
    assert not (
        tmp_path / "store/blobs" / sha256_of_file(other)[:2] / sha256_of_file(other)
    ).exists()


def test_another_build_of_the_same_bytes_is_a_release_and_one_file(
    store: Store, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path)
    first, second = publish(store, path), publish(store, path, epoch=1)
    assert first.build_key != second.build_key
    assert store.catalogue.listing(RELEASE, first.fingerprint) == [first]


@pytest.mark.parametrize("channel", [RELEASE, DEV])
def test_a_name_never_gets_other_bytes(store: Store, tmp_path: Path, channel: Channel) -> None:
    first = publish(store, make_wheel(tmp_path))
    other = make_wheel(tmp_path / "other", members={"new.py": b"x = 1\n"})
    assert other.name == first.filename
    with pytest.raises(NameTakenError, match="published with other bytes"):
        publish(store, other, epoch=1, channel=channel)
    assert store.catalogue.releases_of(first.filename) == [first]


def test_the_constraint_itself_keeps_a_name_to_one_content(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    with store.database.reading() as connection:
        row = connection.execute(files.select()).mappings().one()
    for changed in ({"sha256": "0" * 64}, {"filename": "other-1.0-py3-none-any.whl"}):
        with (
            pytest.raises(StoreError, match=r"(?i)unique"),
            store.database.writing() as connection,
        ):
            connection.execute(files.insert().values({**row, **changed}))


def test_bytes_never_get_another_name(store: Store, tmp_path: Path) -> None:
    first = publish(store, make_wheel(tmp_path))
    copy = tmp_path / "wheaty-1.0-2-cp311-none-any.whl".replace("cp311", wheelshop.NATIVE_TAG)
    copy.write_bytes((tmp_path / first.filename).read_bytes())
    with pytest.raises(NameTakenError, match="are published as wheaty-1"):
        publish(store, copy, epoch=1)


def test_bytes_that_changed_after_they_were_verified_are_refused(
    store: Store, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path)
    wheel, log = read_wheel(path), tmp_path / "log"
    log.touch()
    make_wheel(tmp_path, members={"evil.py": b"import os\n"})
    papers = provenance_for(wheel, log)
    with pytest.raises(NotProvenError, match="its sha256 is"):
        store.put(wheel, provenance=papers, channel=RELEASE, target=LINUX, log=log)
    assert not _files(tmp_path / "store/blobs")


@pytest.mark.parametrize(
    "change",
    [
        {"content_sha256": sha256_of(b"")},
        {"size": 1},
        {"requires_python": ">=2"},
        {"metadata": b"Metadata-Version: 2.1\n"},
        {"extension_modules": frozenset({"wheaty._speedups"})},
        {"interpreter_bound": ("wheaty.so",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_bytes_say_counts_and_not_what_is_said_of_them(
    store: Store, tmp_path: Path, change: dict[str, object]
) -> None:
    path, log = make_wheel(tmp_path), tmp_path / "log"
    log.touch()
    wheel: VerifiedWheel = replace(read_wheel(path), **change)  # type: ignore[arg-type]
    papers = provenance_for(wheel, log)
    with pytest.raises(NotProvenError, match=f"its {next(iter(change))} is"):
        store.put(wheel, provenance=papers, channel=RELEASE, target=LINUX, log=log)
    assert not _files(tmp_path / "store/blobs")


def test_a_verifier_that_refuses_keeps_the_wheel_out(tmp_path: Path) -> None:
    def refuse(path: Path) -> VerifiedWheel:
        raise NotProvenError(f"{path.name} holds one architecture")

    store = Store.open(tmp_path / "store", verifier=refuse)
    with pytest.raises(NotProvenError, match="holds one architecture"):
        publish(store, make_wheel(tmp_path))
    assert store.catalogue.indexes() == []
    assert not _files(tmp_path / "store/blobs")
    store.close()


def test_a_store_without_a_verifier_takes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(StoreError, match="it has no verifier"):
        publish(store, make_wheel(tmp_path))
    store.close()


def test_a_log_that_is_not_the_papers_log_is_refused(store: Store, tmp_path: Path) -> None:
    wheel, log = read_wheel(make_wheel(tmp_path)), tmp_path / "log"
    log.write_text("one")
    papers = provenance_for(wheel, log)
    log.write_text("two")
    with pytest.raises(NotProvenError, match="log sha256"):
        store.put(wheel, provenance=papers, channel=RELEASE, target=LINUX, log=log)


def test_papers_of_another_target_or_project_are_refused(store: Store, tmp_path: Path) -> None:
    wheel, log = read_wheel(make_wheel(tmp_path)), tmp_path / "log"
    log.touch()
    papers = provenance_for(wheel, log)
    with pytest.raises(NotProvenError, match="its fingerprint is"):
        store.put(wheel, provenance=papers, channel=RELEASE, target=MACOS, log=log)
    other = replace(papers, source=replace(papers.source, name="corny"))
    with pytest.raises(NotProvenError, match="its name is"):
        store.put(wheel, provenance=other, channel=RELEASE, target=LINUX, log=log)


def test_tags_must_serve_the_target(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="does not serve"):
        publish(store, make_wheel(tmp_path, tag="cp39-cp39-macosx_11_0_arm64"))


def test_a_portable_target_takes_no_wheel_that_is_bound_to_an_interpreter(
    store: Store, tmp_path: Path
) -> None:
    bound = make_wheel(tmp_path, members={"wheaty_embed.so": b"libpython3.11.so.1.0"})
    with pytest.raises(PolicyError, match="bound to one interpreter build"):
        publish(store, bound, target=MACOS)
    assert publish(store, bound, target=LINUX).interpreter_bound == ("wheaty_embed.so",)


def test_a_local_build_is_invisible_to_the_release_channel(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with pytest.raises(PolicyError, match="release channel"):
        publish(store, path, origin=LOCAL)
    release = publish(store, path, origin=LOCAL, channel=DEV)
    assert not store.catalogue.has_index(RELEASE, release.fingerprint)
    assert store.catalogue.listing(DEV, release.fingerprint) == [release]


@pytest.mark.parametrize("name", ["../evil-1.0-py3-none-any.whl", "wheaty.whl", "", "a/b.whl"])
def test_a_name_that_is_no_file_name_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    log.touch()
    wheel = replace(read_wheel(make_wheel(tmp_path)), filename=name)
    with pytest.raises((MalformedError, NotProvenError)):
        store.put(
            wheel, provenance=provenance_for(wheel, log), channel=RELEASE, target=LINUX, log=log
        )
    assert not _files(tmp_path / "store/blobs")


def test_text_that_has_no_utf8_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    origin = Origin(kind="local", location="/src/\udcff", pinned=False)
    with pytest.raises(MalformedError, match="no canonical form"):
        publish(store, make_wheel(tmp_path), origin=origin, channel=DEV)


def test_an_origin_without_end_or_with_a_nul_is_refused(store: Store, tmp_path: Path) -> None:
    """PostgreSQL could not keep either; SQLite must not be another store."""
    for location in ("/src/" + "x" * 2_000, "/src/\0"):
        with pytest.raises(MalformedError, match=r"longer than 2000 bytes|a NUL"):
            publish(
                store,
                make_wheel(tmp_path),
                origin=replace(LOCAL, location=location),
                channel=DEV,
            )
    longest = replace(LOCAL, location="/" + "".join(map(chr, range(0x4E00, 0x4E00 + 666))))
    assert publish(store, make_wheel(tmp_path), origin=longest, channel=DEV).channel == DEV


def _spawn(store: Path, wheel: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, wheelshop.__file__, str(store), str(wheel)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_two_processes_open_a_new_store_and_publish_one_build(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    running = [_spawn(tmp_path / "store", make_wheel(folder)) for folder in folders]
    answers = [json.loads(process.communicate()[0]) for process in running]
    assert answers[0] == answers[1]
    store = Store.open(tmp_path / "store")
    assert len(store.catalogue.releases_of(answers[0]["filename"])) == 1
    store.close()


def _wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not found():
        assert process.poll() is None, "it ended before the test could kill it"


def test_a_publisher_killed_between_blob_and_row_leaves_no_release(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    store = Store.open(tmp_path / "store", verifier=read_wheel)
    metadata = sha256_of(read_wheel(path).metadata)
    last_blob = tmp_path / "store/blobs" / metadata[:2] / metadata
    with store.database.writing():
        # The other process keeps its blobs, and then waits for the lock that this one holds.
        process = _spawn(tmp_path / "store", path)
        _wait_for(last_blob.exists, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert store.catalogue.indexes() == []
    assert publish(store, path).filename == path.name
    store.close()


_HANG = """
import signal, sys
from pathlib import Path
from store.publish import Store
from tests.store.wheelshop import publish
def hang(path):
    print("staged", flush=True)
    signal.pause()
publish(Store.open(Path(sys.argv[1]), verifier=hang), Path(sys.argv[2]))
"""


def test_a_publisher_killed_while_it_verifies_leaves_nothing(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", _HANG, str(tmp_path / "store"), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "staged\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _files(tmp_path / "store/staging")
    store = Store.open(tmp_path / "store", verifier=read_wheel)
    assert not _files(tmp_path / "store/staging")
    assert not _files(tmp_path / "store/blobs")
    assert publish(store, path).filename == path.name
    store.close()


_LIMITED = """
import resource, sys
from pathlib import Path
from store.publish import Store
from store.errors import StoreError
from tests.store.wheelshop import publish, read_wheel
store = Store.open(Path(sys.argv[1]), verifier=read_wheel)
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    publish(store, Path(sys.argv[2]))
except StoreError as error:
    print(error.code, error.exit_status, error.message)
"""


@pytest.mark.parametrize("limit", [5_000, 40_000], ids=["blob", "catalogue"])
def test_a_full_disk_is_trouble_with_no_release(tmp_path: Path, limit: int) -> None:
    """The wheel has 10 kB, so the smaller limit stops its blob, the larger one the catalogue."""
    path = make_wheel(tmp_path, members={"big.py": b"#" * 10_000})
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "store"), str(path), str(limit)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert done.stdout.startswith("store-trouble 3 "), done.stdout + done.stderr
    store = Store.open(tmp_path / "store", verifier=read_wheel)
    assert store.catalogue.indexes() == []
    assert publish(store, path).filename == path.name
    store.close()


_READ_ONLY = """
import os, sys
from pathlib import Path
from store.publish import Store
from store.errors import StoreError
from tests.store.wheelshop import publish, read_wheel
from alembic import command
if os.geteuid() == 0:
    os.setuid(65534)  # root may write to everything
try:
    Store.open(Path(sys.argv[1]))
except StoreError as error:
    print(error.code, error.exit_status, error.message, error.hint)
"""


@pytest.mark.parametrize("filled", [False, True])
def test_a_read_only_folder_is_trouble(filled: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="wheelfarm-test-") as name:
        root = Path(name)
        root.chmod(0o755)
        folder = root / "store"
        if filled:
            Store.open(folder).close()
        else:
            folder.mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, "-c", _READ_ONLY, str(folder)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert done.stdout.startswith("store-trouble 3 "), done.stdout + done.stderr
    assert "the folder read-only" in done.stdout or "may write to" in done.stdout


def test_a_folder_of_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(NotAStoreError, match=r"holds other files \('thesis.tex'\)"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="there is no store"):
        Store.open(tmp_path / "store", create=False)
    assert not (tmp_path / "store").exists()


def test_a_catalogue_of_other_bytes_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"not a database, but long enough" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)


def test_a_file_in_place_of_the_folder_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(WheelfarmError) as caught:
        Store.open(tmp_path / "store")
    assert caught.value.code == "store-trouble"
