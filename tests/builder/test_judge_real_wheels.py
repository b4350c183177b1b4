"""Honest wheels of real projects are accepted: each is a trap for a strictness without sense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from builder.judge import judge
from tests.builder.forge import errors

# Traps: fat beyond need, vendored libraries, abi3, libraries without PyInit (pycryptodome, apsw,
# debugpy), __init__ extensions (apsw), programs (ruff), launchers (distlib), musl.
WHEELS = [
    (
        "markupsafe==3.0.2",
        "macosx_10_9_universal2",
        "9025b4018f3a1314059769c7bf15441064b2207cb3f065e6ea1e7359cb46db9d",
    ),
    (
        "markupsafe==3.0.2",
        "macosx_11_0_arm64",
        "93335ca3812df2f366e80509ae119189886b0f3c2b81325d39efdb84a1e2ae93",
    ),
    (
        "markupsafe==3.0.2",
        "manylinux_2_17_x86_64",
        "a123e330ef0853c6e822384873bef7507557d8e4a082961e1defa947aa59ba84",
    ),
    (
        "numpy==2.3.5",
        "macosx_11_0_arm64",
        "acfd89508504a19ed06ef963ad544ec6664518c863436306153e13e94605c218",
    ),
    (
        "cryptography==50.0.2",
        "manylinux_2_34_x86_64",
        "9dab55f57c74c3cad24c323bacbbd04be4705ba6eb0d92e920b1fc4837ed5079",
    ),
    (
        "pycryptodome==4.4.0",
        "macosx_10_9_universal2",
        "99494a2ab8137a9a6967db30e21f54f6dfa70327d8e72863638dece6d6a16374",
    ),
    (
        "lief==1.0.0",
        "manylinux_2_28_x86_64",
        "96277e45d58de45a33249079dac43e50db1c96da162fbe1ad02fbaa82e3bd06f",
    ),
    (
        "ruff==0.17.5",
        "manylinux_2_17_x86_64",
        "40ca8afaac309b41a5b2e09e4e7beb1f824826b93c25697c4d74f573324fba4e",
    ),
    ("distlib==0.4.4", "any", "cf09d55b1e85a89576b036aeb71550bfd68320f3f21761ca329eadadad918638"),
    (
        "apsw==3.54.1.0",
        "manylinux_2_28_x86_64",
        "55f7fd02953f7f8cc188b1015afd0b5f1148412c368362bab24d3e8c69d07322",
    ),
    (
        "debugpy==1.8.22",
        "manylinux_2_34_x86_64",
        "192b73e8d53bbd60225220c0943627bf249ac93d0ea3090e23c45f3e0ceb6a35",
    ),
    (
        "greenlet==3.5.6",
        "musllinux_1_2_x86_64",
        "188bf333769b7145e2b0b4a7f09615ec550ed44d3a2a8395fb7b36f0e9901e13",
    ),
    (
        "pyobjc-core==13.0",
        "macosx_10_9_universal2",
        "4627348cb31c8deb2bb94702d9bcaa74869f4fef9559fd134416a6a4ca42006e",
    ),
]


@pytest.mark.network
@pytest.mark.parametrize(("requirement", "platform", "sha256"), WHEELS)
def test_an_honest_wheel_is_accepted(
    tmp_path: Path, requirement: str, platform: str, sha256: str
) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--python-version=3.11"]
    command += ["--platform", platform, "--dest", str(tmp_path), "-r", str(wanted)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = tmp_path.glob("*.whl")
    judgement = judge(path)
    assert (judgement.sha256, judgement.verdict) == (sha256, "accept")
    assert errors(judgement) == set()
