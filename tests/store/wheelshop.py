"""Tiny real wheels, and a verifier that reads them: every digest in it is taken of real bytes.

Also a program: ``python wheelshop.py STORE WHEEL`` publishes WHEEL for `LINUX`, so that
tests can have several processes at one store, and kill them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, parse_wheel_filename

from store.channel import RELEASE, Channel
from store.digest import JSON, Sha256, digest_of, sha256_of, sha256_of_file
from store.fingerprint import fingerprint_of
from store.provenance import BuildInputs, Origin, Provenance, Recipe, Source
from store.publish import Store
from store.release import Release
from store.target import Baseline, Interpreter, InterpreterBuild, Target, identity_of
from store.verdict import Finding, VerifiedWheel

_V = sys.version_info
_ZIP_TIME = (2020, 1, 1, 0, 0, 0)
NATIVE_TAG = f"cp{_V.major}{_V.minor}"

LINUX = Target(
    interpreter=Interpreter(
        implementation="cpython",
        version=f"{_V.major}.{_V.minor}",
        soabi=f"cpython-{_V.major}{_V.minor}-x86_64-linux-gnu",
        ext_suffix=f".cpython-{_V.major}{_V.minor}-x86_64-linux-gnu.so",
        debug=False,
        free_threaded=False,
        pointer_bytes=8,
    ),
    build=InterpreterBuild(
        libpython="static",
        libpython_name=None,
        libpython_resolves=True,
        config_sha256=sha256_of(b"one"),
        build_details_sha256=None,
    ),
    arch="x86_64",
    baseline=Baseline(kind="manylinux", major=2, minor=36),
)
"""An exact target: one build of the running Python's version, on x86_64 with glibc 2.36."""

assert LINUX.build is not None
OTHER_LINUX = replace(LINUX, build=replace(LINUX.build, config_sha256=sha256_of(b"two")))
"""The same ABI, another interpreter build."""

MACOS = replace(
    LINUX,
    interpreter=replace(
        LINUX.interpreter,
        soabi=f"cpython-{_V.major}{_V.minor}-darwin",
        ext_suffix=f".cpython-{_V.major}{_V.minor}-darwin.so",
    ),
    build=None,
    arch="arm64",
    baseline=Baseline(kind="macosx", major=11, minor=0),
)
"""A portable target."""


def make_wheel(
    folder: Path,
    *,
    name: str = "wheaty",
    version: str = "1.0",
    tag: str = f"{NATIVE_TAG}-none-any",
    build: str | None = "1_abc",
    requires_python: str | None = ">=3.8",
    requires: tuple[str, ...] = (),
    members: Mapping[str, bytes] | None = None,
) -> Path:
    """A wheel on disk with METADATA, WHEEL and a right RECORD, the same bytes every time."""
    stem = f"{name.replace('-', '_')}-{version}"
    contents = {f"{name.replace('-', '_')}.py": b"ANSWER = 42\n", **(members or {})}
    info = f"{stem}.dist-info"
    contents[f"{info}/METADATA"] = _metadata(name, version, requires_python, requires)
    contents[f"{info}/WHEEL"] = _wheel_file(tag, build)
    contents[f"{info}/RECORD"] = _record(contents, f"{info}/RECORD")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}{f'-{build}' if build else ''}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in contents.items():
            archive.writestr(zipfile.ZipInfo(member, _ZIP_TIME), data)
    return path


def read_wheel(path: Path) -> VerifiedWheel:
    """The wheel at `path` as a verifier sees it: digests and metadata from its bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = next(data for name, data in members.items() if name.endswith("/METADATA"))
    headers = message_from_bytes(metadata)
    content = {name: sha256_of(data) for name, data in members.items() if "dist-info" not in name}
    return VerifiedWheel(
        path=path,
        filename=path.name,
        sha256=sha256_of_file(path),
        size=path.stat().st_size,
        content_sha256=digest_of(content),
        name=canonicalize_name(headers["Name"]),
        version=headers["Version"],
        tags=parse_wheel_filename(path.name)[3],
        requires_python=headers["Requires-Python"],
        metadata=metadata,
        extension_modules=frozenset(
            name.partition(".")[0].replace("/", ".") for name in members if name.endswith(".so")
        ),
        interpreter_bound=tuple(n for n, data in members.items() if b"libpython" in data),
        findings=(),
    )


def provenance_for(
    wheel: VerifiedWheel,
    log: Path,
    *,
    target: Target = LINUX,
    origin: Origin | None = None,
    epoch: int = 0,
    findings: tuple[Finding, ...] = (),
    inputs: Mapping[str, Any] | None = None,
    environment: Mapping[str, JSON] | None = None,
) -> Provenance:
    """The papers of a build of `wheel`; `inputs` are fields of its BuildInputs."""
    sdist = Sha256(sha256_of(f"{wheel.name} {wheel.version}".encode()))
    source = Source(
        name=wheel.name,
        version=wheel.version,
        filename=f"{wheel.name}-{wheel.version}.tar.gz",
        sha256=sdist,
        origin=origin or Origin(kind="index", location="https://index.example/simple", pinned=True),
    )
    made_of = BuildInputs(
        source_name=wheel.name,
        source_version=wheel.version,
        source_sha256=sdist,
        target=identity_of(target),
        recipe=Recipe(),
        build_requirements=(),
        toolchain={"kind": "native"},
        tools={"build": "1.4"},
        epoch=epoch,
    )
    return Provenance(
        source=source,
        fingerprint=fingerprint_of(target),
        inputs=replace(made_of, **(inputs or {})),
        built_filename=wheel.filename,
        built_sha256=wheel.sha256,
        log_sha256=sha256_of_file(log),
        log_size=log.stat().st_size,
        proof="statically-verified",
        findings=findings,
        environment=environment or {},
    )


def publish(
    store: Store,
    path: Path,
    *,
    target: Target = LINUX,
    channel: Channel = RELEASE,
    origin: Origin | None = None,
    epoch: int = 0,
    findings: tuple[Finding, ...] = (),
    inputs: Mapping[str, Any] | None = None,
    environment: Mapping[str, JSON] | None = None,
) -> Release:
    """Put the wheel at `path` into `store` with papers of its own."""
    log = path.with_suffix(".log")
    log.write_text(f"building {path.name}\n", encoding="utf-8")
    wheel = read_wheel(path)
    papers = provenance_for(
        wheel,
        log,
        target=target,
        origin=origin,
        epoch=epoch,
        findings=findings,
        inputs=inputs,
        environment=environment,
    )
    return store.put(wheel, provenance=papers, channel=channel, target=target, log=log)


def _metadata(
    name: str, version: str, requires_python: str | None, requires: tuple[str, ...]
) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return ("\n".join(lines) + "\n\n").encode()


def _wheel_file(tag: str, build: str | None) -> bytes:
    lines = ["Wheel-Version: 1.0", "Generator: wheelshop", "Root-Is-Purelib: true"]
    lines += [f"Build: {build}"] if build else []
    lines += [f"Tag: {tag}"]
    return ("\n".join(lines) + "\n").encode()


def _record(contents: Mapping[str, bytes], own: str) -> bytes:
    rows = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}")
    return ("\n".join([*rows, f"{own},,"]) + "\n").encode()


def main(folder: str, wheel: str) -> None:
    """Publish one wheel from a process of its own, and print the release."""
    store = Store.open(Path(folder), verifier=read_wheel)
    print(json.dumps(publish(store, Path(wheel)).to_json()))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
