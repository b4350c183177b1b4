from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.build import build_wheel, plan_inputs
from builder.errors import ArchiveError, BuilderError
from builder.process import network_can_be_cut
from builder.stages import BuildFailure, BuildRequest, FinishedBuild, Sdist
from store.digest import sha256_of, sha256_of_file
from store.provenance import Origin, Recipe, Source

Request = Callable[..., BuildRequest]


def finished(request: BuildRequest) -> FinishedBuild:
    result = build_wheel(request)
    assert isinstance(result, FinishedBuild), (
        result,
        (request.workspace / "build.log").read_text(),
    )
    return result


def failed(request: BuildRequest) -> BuildFailure:
    result = build_wheel(request)
    assert isinstance(result, BuildFailure)
    assert not list(request.workspace.rglob("*.whl"))
    assert [path.name for path in request.workspace.iterdir()] == ["build.log"]
    return result


def test_a_pure_project_becomes_a_verified_wheel(request_for: Request) -> None:
    request = request_for("pure")
    result = finished(request)
    wheel, provenance = result.wheel, result.provenance
    assert (wheel.name, wheel.version) == ("pure", "1.0")
    assert sorted(p.relative_to(request.workspace) for p in request.workspace.rglob("*")) == [
        Path("build.log"), Path("wheel"), Path("wheel") / wheel.filename,
    ]  # fmt: skip
    assert provenance.built_filename == "pure-1.0-py3-none-any.whl"
    assert provenance.log_sha256 == sha256_of_file(result.log)
    assert provenance.log_size == result.log.stat().st_size
    assert "building pure" in result.log.read_text()
    assert provenance.environment["source_date_epoch"] == 1_600_000_000
    assert provenance.environment["network"] == ("off" if network_can_be_cut() else "on")
    assert provenance.inputs.build_requirements == ()


def test_the_inputs_are_known_before_a_build_whose_pins_are_known(request_for: Request) -> None:
    request = request_for("pure", pins=())
    assert plan_inputs(request).key == finished(request).provenance.inputs.key
    with pytest.raises(BuilderError, match="requirements are resolved"):
        plan_inputs(replace(request, pins=None))


def test_every_input_is_in_the_key(request_for: Request) -> None:
    request = request_for("pure", pins=())
    key = plan_inputs(request).key
    assert plan_inputs(replace(request, epoch=1)).key != key
    assert plan_inputs(replace(request, salt="a")).key != key
    assert "salt" not in plan_inputs(request).to_json(), "keys from before there were salts stay"
    assert plan_inputs(replace(request, recipe=Recipe(env={"A": "1"}))).key != key
    source = replace(request.sdist.source, sha256=sha256_of(b"other"))
    assert plan_inputs(replace(request, sdist=replace(request.sdist, source=source))).key != key
    assert plan_inputs(replace(request, workspace=request.workspace / "else")).key == key


FAILURES = {
    "no-backend": ("build", "'nowhere.to_be_found' cannot be imported", "ModuleNotFoundError: "),
    "exits": ("build", "build_wheel ended with status 3", "fatal error: foo/foo.h: No such file"),
    "raises": ("build", "build_wheel ended with status 1", "RuntimeError: the moon is in"),
    "no-wheel": ("build", "wrote no wheel", None),
    "two-wheels": ("build", "wrote 2 wheels", None),
    "other-name": ("build", "another project: someone-else", None),
    "other-version": ("build", "another version: 2.0, not 1.0", None),
    "odd-name": ("build", "no wheel's name", None),
    "link-wheel": ("build", "a link or a folder", None),
    "odd-answer": ("build", "an answer that is no file", None),
    "wrong-type": ("build", "an answer of the wrong type", None),
    "only-newer": ("unsupported", "needs Python >=99", None),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_backend_does_wrong_is_a_result_with_a_sentence(
    name: str, request_for: Request
) -> None:
    kind, message, first_error = FAILURES[name]
    failure = failed(request_for(name))
    assert (failure.kind, failure.findings) == (kind, ())
    assert message in failure.message
    assert first_error is None or first_error in str(failure.first_error)


def test_a_backend_that_hangs_is_stopped_and_its_kind_is_told(request_for: Request) -> None:
    silent = failed(request_for("hangs", recipe=Recipe(silence_seconds=1)))
    assert (silent.kind, silent.first_error) == ("silence", "waiting for Godot")
    assert silent.hint is not None
    talking = failed(request_for("chatters", recipe=Recipe(timeout_seconds=1)))
    assert talking.kind == "timeout"


@pytest.mark.slow
def test_a_backend_that_floods_its_log_is_stopped(request_for: Request) -> None:
    failure = failed(request_for("floods"))
    assert failure.kind == "policy"
    assert "printed more than" in failure.message
    assert len(str(failure.first_error)) <= 400


def test_a_failure_after_the_requirements_knows_its_key(request_for: Request) -> None:
    request = request_for("exits", pins=())
    inputs = failed(request).inputs
    assert inputs is not None
    assert inputs.key == plan_inputs(request).key
    assert failed(request_for("only-newer")).inputs is None


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_daemon_does_not_outlive_its_build(request_for: Request) -> None:
    mark = f"daemon-of-{os.getpid()}"
    finished(request_for("daemon", recipe=Recipe(env={"DAEMON_MARK": mark})))
    running = [
        entry
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if mark in entry.read_bytes().decode("utf-8", "replace")
    ]
    assert running == []


@pytest.mark.skipif(not network_can_be_cut(), reason="the kernel gives no network namespace here")
def test_hooks_have_no_network_but_loopback(request_for: Request) -> None:
    log = finished(request_for("network")).log.read_text()
    assert "network: 101" in log
    assert "loopback: there" in log


def test_hooks_see_no_secret_and_an_empty_home(
    request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("AWS_SECRET_ACCESS_KEY", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY"):
        monkeypatch.setenv(key, "hunter2")
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    log = finished(request_for("secrets", recipe=Recipe(env={"WANTED": "yes"}))).log.read_text()
    assert "hunter2" not in log
    assert "WANTED=yes" in log
    assert "PYTHONHASHSEED=0" in log
    assert "SOURCE_DATE_EPOCH=1600000000" in log
    assert "home holds []" in log


def test_a_folder_that_nobody_may_write_to_is_cleared_away(request_for: Request) -> None:
    request = request_for("tidy")
    finished(request)
    assert not (request.workspace / "scratch").exists()


def test_a_wheel_that_lies_is_refused_with_its_findings(request_for: Request) -> None:
    failure = failed(request_for("lies"))
    assert failure.kind == "verification"
    assert failure.findings
    assert failure.inputs is not None


def test_a_lost_module_that_a_sibling_has_is_refused(request_for: Request) -> None:
    recipe = Recipe(expect_extension_modules=("pure._fast",))
    failure = failed(request_for("pure", recipe=recipe))
    assert failure.kind == "verification"
    assert any("pure._fast" in str(finding.to_json()) for finding in failure.findings)


def test_an_sdist_that_must_not_be_opened_leaves_nothing(
    request_for: Request, tmp_path: Path
) -> None:
    path = tmp_path / "bad-1.0.tar.gz"
    path.write_bytes(b"\x1f\x8b no")
    origin = Origin(kind="local", location=str(path), pinned=False)
    source = Source(
        name="bad", version="1.0", filename=path.name, sha256=sha256_of_file(path), origin=origin
    )
    request = request_for(Sdist(source=source, path=path))
    with pytest.raises(ArchiveError, match=r"bad-1\.0\.tar\.gz is cut off"):
        build_wheel(request)
    assert [entry.name for entry in request.workspace.iterdir()] == ["build.log"]
