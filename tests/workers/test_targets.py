from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builder.errors import InterpreterError, UnbuildableTargetError
from builder.interpreter import measure
from store.errors import MalformedError
from store.fingerprint import fingerprint_of
from workers.errors import TargetSpecError
from workers.settings import NamedTarget, Settings
from workers.targets import resolve_target

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, cross_cache: Path) -> Settings:
    folder = tmp_path_factory.mktemp("farm")
    targets = {
        "mac": NamedTarget(spec=f"macos-11.0-arm64:{TAG}", python=Path(sys.executable)),
        "wrong": NamedTarget(spec=f"macos-11.0-arm64:{TAG}", python=Path("/bin/ls")),
    }
    return Settings(store=folder / "store", cache=cross_cache, targets=targets)


def test_native_is_the_running_interpreter(settings: Settings) -> None:
    target = resolve_target("native", settings)
    assert target.name == "native"
    assert target.target == measure(Path(sys.executable)).target()
    assert target.fingerprint == fingerprint_of(target.target)


def test_another_interpreter_is_another_target(
    settings: Settings, interpreters: list[Path]
) -> None:
    found = {resolve_target(f"native:{python}", settings).fingerprint for python in interpreters}
    assert len(found) == len(interpreters)


def test_a_name_of_ones_own_is_what_its_spec_says(settings: Settings) -> None:
    named = resolve_target("mac", settings)
    spelt = resolve_target(f"macos-11.0-arm64:{TAG}", settings)
    assert (named.name, named.fingerprint) == ("mac", spelt.fingerprint)
    assert named.target.platform == "macosx_11_0_arm64"
    assert named.target.build is None
    assert named.toolchain.identity == spelt.toolchain.identity


def test_a_version_that_is_installed_is_found(settings: Settings, interpreters: list[Path]) -> None:
    versions = {measure(python).target().interpreter.version for python in interpreters}
    other = sorted(versions - {f"{sys.version_info[0]}.{sys.version_info[1]}", "3.8"})
    if not other:
        pytest.skip("the machine has one version of Python")
    target = resolve_target(f"macos-11.0-arm64:cp{other[-1].replace('.', '')}", settings)
    assert target.target.interpreter.version == other[-1]


@pytest.mark.parametrize(
    ("word", "error", "sentence"),
    [
        ("mars", TargetSpecError, "no such target: 'mars'"),
        ("native:/nowhere/python", InterpreterError, "/nowhere/python"),
        ("macos-11.0-arm64:cp399", TargetSpecError, "no Python 3.99 on this machine"),
        ("macos-11.0-arm64", MalformedError, "not a macOS target"),
        ("macos-10.15-arm64:cp311", MalformedError, "Apple silicon|no macOS 10.15"),
        ("macos-11.0-universal2:cp311", UnbuildableTargetError, "universal2"),
        ("wrong", InterpreterError, "/bin/ls"),
    ],
)
def test_what_cannot_be_built_for_is_said(
    settings: Settings, word: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        resolve_target(word, settings)
