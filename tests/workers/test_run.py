"""Whole runs of the command over local sdists: real builds, a real store, no network."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from store.channel import parse_channel
from store.digest import sha256_of_file
from store.publish import Store
from tests.forked import forked
from workers.cli import main
from workers.sources import LOCAL

T = TypeVar("T")
Pack = Callable[[str], Path]
Answer = tuple[int, list[dict[str, Any]]]


class Farm:
    """The command, over a store and a cache of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.cache = folder / "cache"

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHEELFARM_", "XDG_"))}
        return subprocess.Popen(
            forked("build", *arguments),
            env=kept | {"WHEELFARM_STORE": str(self.store), "WHEELFARM_CACHE": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, *arguments: str | Path) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in out + err
        return process.returncode, out, err

    def build(self, *arguments: str | Path) -> Answer:
        code, out, err = self.say(*arguments, "--json")
        assert out, err
        return code, json.loads(out)["outcomes"]

    def settings(self, text: str) -> Path:
        path = self.folder / "settings.toml"
        path.write_text(text)
        return path

    def listed(self) -> dict[str, str | None]:
        """Every wheel of the channel of local sdists, with the reason of its yank."""
        store = Store.open(self.store)
        summaries = store.catalogue.indexes()
        assert {summary.channel for summary in summaries} <= {LOCAL}
        rows = [r for s in summaries for r in store.catalogue.listing(s.channel, s.fingerprint)]
        store.close()
        return {row.filename: row.yanked for row in rows}

    def left_over(self) -> list[str]:
        """What is still in the folders of running builds and publications."""
        folders = (self.cache / "scratch", self.store / "staging")
        return [path.name for folder in folders for path in folder.iterdir()]


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def statuses(outcomes: list[dict[str, Any]]) -> list[str]:
    return [outcome["status"] for outcome in outcomes]


def test_a_wheel_is_built_once_and_is_a_hit_from_then_on(farm: Farm, pack: Pack) -> None:
    code, (first,) = farm.build(pack("two-minded"))
    assert (code, first["status"], first["channel"]) == (0, "built", "dev/local")
    assert first["filename"].startswith("two_minded-1.0-1_")
    code, (second,) = farm.build(pack("two-minded"))
    assert (code, second["status"]) == (0, "hit")
    assert second["sha256"] == first["sha256"]
    assert farm.listed() == {first["filename"]: None}
    assert farm.left_over() == []


@pytest.mark.slow
def test_a_build_goes_to_the_catalogue_that_is_set(
    farm: Farm, pack: Pack, new_database: str
) -> None:
    settings = farm.settings(f'database = "{new_database}"')
    for status in ("built", "hit"):
        code, (outcome,) = farm.build(pack("pure"), "--settings", settings)
        assert (code, outcome["status"]) == (0, status)
    assert not (farm.store / "catalogue.sqlite").exists()
    with closing(Store.open(farm.store, database=new_database)) as store:
        assert store.catalogue.releases_of(outcome["filename"])


def test_one_that_fails_harms_no_other_and_says_why(farm: Farm, pack: Pack) -> None:
    code, outcomes = farm.build(pack("raises"), pack("pure"))
    assert code == 1
    assert statuses(outcomes) == ["failed", "built"]
    failed = outcomes[0]
    assert failed["code"] == "build"
    assert failed["first_error"] == "RuntimeError: the moon is in the wrong house"
    assert "the moon" in Path(failed["log"]).read_text()
    assert farm.left_over() == []


def test_a_worker_that_is_killed_is_the_farms_trouble_and_nobody_elses(
    farm: Farm, pack: Pack
) -> None:
    code, outcomes = farm.build(pack("kills-worker"), pack("pure"))
    assert statuses(outcomes) == ["trouble", "built"]
    assert (code, outcomes[0]["code"]) == (3, "worker-died")
    assert "signal 9" in outcomes[0]["message"]
    farm.build(pack("pure"))
    assert farm.left_over() == [], "the next run sweeps what the dead left"


@pytest.mark.parametrize(
    ("name", "code"),
    [("lies-1.0.tar.gz", "unsafe-archive"), ("absent-1.0.tar.gz", "not-an-sdist")],
)
def test_a_bad_sdist_harms_no_other(farm: Farm, pack: Pack, name: str, code: str) -> None:
    bad = farm.folder / name
    if name.startswith("lies"):
        bad.write_bytes(pack("raises").read_bytes()[:-20])
    status, outcomes = farm.build(bad, pack("pure"))
    assert statuses(outcomes) == ["failed", "built"]
    assert (status, outcomes[0]["code"]) == (1, code)


def test_two_contents_of_one_version_are_refused_before_anything_is_built(
    farm: Farm, pack: Pack
) -> None:
    other = farm.folder / "other" / "pure-1.0.tar.gz"
    other.parent.mkdir()
    data = pack("pure").read_bytes()
    other.write_bytes(data[:4] + b"\x01\x02\x03\x04" + data[8:])  # another time in its header
    code, _, err = farm.say(pack("pure"), other)
    assert code == 2
    assert err.startswith("error[conflicting-sources]: two sdists of pure 1.0")
    assert farm.listed() == {}


def test_a_recipe_is_part_of_the_key_and_the_newest_build_is_the_one_offered(
    farm: Farm, pack: Pack
) -> None:
    sdist = pack("two-minded")
    _, (plain,) = farm.build(sdist)
    recipe = farm.settings('[recipes.two-minded]\nenv = { WITHOUT = "1" }\n')
    _, (pure,) = farm.build(sdist, "--settings", recipe)
    assert pure["status"] == "built"
    reason = f"superseded by {pure['filename']}"
    assert farm.listed() == {plain["filename"]: reason, pure["filename"]: None}
    _, (again,) = farm.build(sdist)
    assert (again["status"], again["filename"]) == ("hit", plain["filename"])
    reason = f"superseded by {plain['filename']}"
    assert farm.listed() == {plain["filename"]: None, pure["filename"]: reason}


@pytest.mark.slow
def test_a_poor_wheel_is_withdrawn_when_a_sibling_shows_what_it_lacks(
    farm: Farm, pack: Pack, interpreters: list[Path]
) -> None:
    other = another(interpreters)
    sdist = pack("two-minded")
    recipe = farm.settings('[recipes.two-minded]\nenv = { WITHOUT = "1" }\n')
    _, (poor,) = farm.build(sdist, "--settings", recipe, "--target", f"native:{other}")
    assert poor["status"] == "built"
    _, (rich,) = farm.build(sdist)
    assert rich["status"] == "built"
    listed = farm.listed()
    assert listed[rich["filename"]] is None
    assert listed[poor["filename"]] == (
        f"holds no extension module, {rich['filename']} of the same sdist does"
    )
    code, (again,) = farm.build(sdist, "--settings", recipe, "--target", f"native:{other}")
    assert (code, again["status"], again["code"]) == (1, "refused", "verification")


def another(interpreters: list[Path]) -> Path:
    found = [path for path in interpreters if path.resolve() != Path(sys.executable).resolve()]
    if not found:
        pytest.skip("the machine has one interpreter")
    return found[-1]


@pytest.mark.slow
def test_two_runs_at_once_on_one_store_end_well(farm: Farm, pack: Pack) -> None:
    runs = [farm.start(pack("two-minded"), pack("pure"), "--json") for _ in range(2)]
    answers = [json.loads(run.communicate(timeout=300)[0])["outcomes"] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert {status for answer in answers for status in statuses(answer)} <= {"built", "hit"}
    files = [{outcome["filename"] for outcome in answer} for answer in answers]
    assert files[0] == files[1] == set(farm.listed())


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_stops_its_builds(
    farm: Farm, pack: Pack, how: signal.Signals
) -> None:
    run = farm.start(pack("hangs"), "--json")
    hook = wait_for(lambda: building(farm.cache))
    run.send_signal(how)
    out, err = run.communicate(timeout=60)
    assert wait_for(lambda: not Path(f"/proc/{hook}").exists())
    assert "Traceback" not in out + err
    if how == signal.SIGINT:
        assert (run.returncode, out, err.strip()) == (130, "", "stopped")
    farm.build(pack("pure"))
    assert farm.left_over() == []


def building(cache: Path) -> int | None:
    """The process of a backend's hook that runs below `cache`."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(cache / "scratch"):
                return int(process.name)
    return None


def wait_for(there: Callable[[], T | None]) -> T:
    for _ in range(600):
        if found := there():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_marker_leaves_a_package_out_and_says_so(farm: Farm, pack: Pack) -> None:
    wanted = farm.folder / "requirements.txt"
    wanted.write_text("./pure-1.0.tar.gz\nsix==1.17.0 ; sys_platform == 'win32'\n")
    pack("pure")
    code, outcomes = farm.build("-r", wanted)
    assert code == 0
    assert statuses(outcomes) == ["built", "skipped"]
    assert outcomes[1]["message"] == 'its marker: sys_platform == "win32"'


@pytest.mark.slow
def test_a_channel_of_ones_own_may_be_named_and_release_is_refused_for_a_file(
    farm: Farm, pack: Pack
) -> None:
    _, (mine,) = farm.build(pack("pure"), "--channel", "dev/mine")
    assert mine["channel"] == parse_channel("dev/mine")
    code, (refused,) = farm.build(pack("pure"), "--channel", "release")
    assert (code, refused["status"], refused["code"]) == (1, "failed", "policy")
    assert "may not enter the release channel" in refused["message"]


def test_plain_lines_and_a_table_where_there_is_no_terminal(farm: Farm, pack: Pack) -> None:
    code, out, _ = farm.say(pack("raises"), pack("pure"))
    assert code == 1
    lines = out.splitlines()
    assert any(line.startswith("built    pure==1.0") for line in lines)
    assert any(line.startswith("failed   raises==1.0") for line in lines)
    assert "failed[build]: raises==1.0 for native" in lines
    assert "  first error: RuntimeError: the moon is in the wrong house" in lines
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "error[usage]: nothing to build"),
        (["six"], "error[bad-requirements]: command line: six is no exact version"),
        (["six==1.17.0", "--target", "mars"], "error[bad-target]: no such target: 'mars'"),
        (["six==1.17.0", "--target", "native:/nowhere"], "error[not-an-interpreter]"),
        (["six==1.17.0", "--target", "native:/bin/ls"], "error[not-an-interpreter]"),
        (["six==1.17.0", "--target", "macos-12.3-arm64:cp311"], "error[malformed]"),
        (["six==1.17.0", "--target", "macos-11.0-arm64:cp39999"], "error[malformed]"),
        (["six==1.17.0", "--channel", "mine"], "error[malformed]: not a channel"),
        (["six==1.17.0", "--jobs", "0"], "Error: Invalid value for '-j'"),
        (["-r", "absent.txt"], "error[bad-requirements]: absent.txt: cannot be read"),
    ],
)
def test_wrong_usage_is_a_sentence(
    farm: Farm,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("WHEELFARM_STORE", str(farm.store))
    monkeypatch.setenv("WHEELFARM_CACHE", str(farm.cache))
    monkeypatch.setattr(sys, "argv", ["wheelfarm", "build", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert sentence in "".join(capfd.readouterr())


def test_an_index_that_cannot_be_asked_fails_what_was_wanted_of_it(farm: Farm) -> None:
    code, out, _ = farm.say("six==1.17.0", "--index-url", "ftp://x")
    assert code in {1, 2}
    assert "failed" in out


def test_a_store_that_cannot_be_one_is_said_before_anything_is_built(
    farm: Farm, pack: Pack
) -> None:
    farm.store.mkdir()
    (farm.store / "letters.txt").write_text("dear")
    code, _, err = farm.say(pack("pure"))
    assert code in {2, 3}
    assert "error[not-a-store]" in err
    assert [path.name for path in farm.store.iterdir()] == ["letters.txt"]


@pytest.fixture(autouse=True)
def _no_settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)


@contextmanager
def index_of(folder: Path, *sdists: Path) -> Iterator[str]:
    """A package index that has these sdists and nothing else."""
    for sdist in sdists:
        page = folder / sdist.name.partition("-")[0] / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(
            f'<a href="../{sdist.name}#sha256={sha256_of_file(sdist)}">{sdist.name}</a>'
        )
        shutil.copy(sdist, folder)
    serve = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, args=[0.02]).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def sdist_that_asks_for(folder: Path, name: str, other: str) -> Path:
    path = folder / f"{name}-1.0.tar.gz"
    members = {
        "pyproject.toml": f'[build-system]\nrequires = ["{other}"]\nbuild-backend = "{other}"\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as tar:
        for member, text in members.items():
            info = tarfile.TarInfo(f"{name}-1.0/{member}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    "names", [("ping", "pong"), pytest.param(("ping", "ping"), marks=pytest.mark.slow)]
)
def test_a_loop_of_build_requirements_ends_in_a_sentence(
    farm: Farm, names: tuple[str, str], tmp_path: Path
) -> None:
    one, other = names
    circle = {one: other, other: one}
    sdists = [sdist_that_asks_for(tmp_path, name, asked) for name, asked in circle.items()]
    with index_of(tmp_path / "index", *sdists) as url:
        code, outcomes = farm.build(*(f"{name}==1.0" for name in circle), "--index-url", url)
    assert code == 1
    assert {outcome["code"] for outcome in outcomes} == {"policy"}
    for outcome in outcomes:
        assert outcome["message"].startswith("a build requirement has no wheel")
        assert circle[outcome["package"]] in outcome["first_error"]
    assert farm.left_over() == []
