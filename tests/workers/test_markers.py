import dataclasses

import pytest
from packaging.markers import Marker

from store.target import Baseline, Interpreter, Target
from workers.markers import applies

MAC = Target(
    interpreter=Interpreter(
        implementation="cpython",
        version="3.11",
        soabi="cpython-311-darwin",
        ext_suffix=".cpython-311-darwin.so",
        debug=False,
        free_threaded=False,
        pointer_bytes=8,
    ),
    build=None,
    arch="arm64",
    baseline=Baseline(kind="macosx", major=11, minor=0),
)
LINUX = dataclasses.replace(
    MAC, arch="x86_64", baseline=Baseline(kind="manylinux", major=2, minor=36)
)


@pytest.mark.parametrize(
    ("marker", "mac", "linux"),
    [
        ("sys_platform == 'darwin'", True, False),
        ("platform_system == 'Linux' and platform_machine == 'x86_64'", False, True),
        ("python_version < '3.12'", True, True),
        ("python_full_version >= '3.11.4'", False, False),
        ("implementation_name == 'pypy'", False, False),
        ("platform_python_implementation == 'CPython'", True, True),
        ("extra == 'test'", False, False),
    ],
)
def test_a_marker_is_evaluated_for_the_target_not_for_the_worker(
    marker: str, mac: bool, linux: bool
) -> None:
    assert applies(Marker(marker), MAC) is mac
    assert applies(Marker(marker), LINUX) is linux


def test_no_marker_always_applies() -> None:
    assert applies(None, MAC)
