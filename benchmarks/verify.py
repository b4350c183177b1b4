"""`wheelfarm verify` beside its peers over the same pinned real wheels, in one run on one core.

    python benchmarks/verify.py [--cache DIR] [--rounds N] [NAME...]

The unit is plain decompression plus SHA-256: zipfile reads every member and its bytes are hashed.
Beside it stand judge(), ``auditwheel show`` for Linux wheels and ``delocate-listdeps --all`` for
macOS ones. Each is measured in a process of its own, for each wheel, after its imports are done and
without them: processor time, its children's included, the best of some rounds; and how far the peak
of memory rose above what the imports took.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("wheels.toml")
_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_TIMEOUT = 900
_LARGE = 4 * _MEGABYTE
"""Below this size of the largest member, memory is that of the program and not of the wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds of processor time, and bytes by which the peak of memory rose; None: it failed."""

    seconds: float
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One wheel: its largest member in bytes, and what each tool took."""

    name: str
    size: int
    largest: int
    by_tool: Mapping[str, Measured | None]

    def ratio(self, tool: str, other: str) -> float | None:
        """Time of `tool` over that of `other`."""
        one, two = self.by_tool.get(tool), self.by_tool.get(other)
        return one.seconds / two.seconds if one and two else None

    @property
    def memory_ratio(self) -> float | None:
        """Memory of judge() over the largest member, where that is large."""
        judged = self.by_tool["judge"]
        return judged.memory / self.largest if judged and self.largest >= _LARGE else None


def main() -> int:
    """Fetch, measure, print."""
    options = _options()
    if options.one:
        return _measure_here(options.one, Path(options.wheels[0]), options.rounds)
    rows = []
    with _programs() as environment:
        for path in _fetched(options.cache, options.wheels):
            rows.append(_measured(path, environment, options.rounds))
            print(_row_text(rows[-1]), file=sys.stderr, flush=True)
    print(_report(rows))
    return 0


def _options() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "wheelfarm-corpus")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", nargs="*", help="only those of the list whose name has this")
    parser.add_argument("--cache", type=Path, default=cache)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=sorted(TOOLS), help=argparse.SUPPRESS)
    return parser.parse_args()


def _fetched(cache: Path, wanted: list[str]) -> Iterator[Path]:
    """Each wheel of the list, from the cache or by pip, its bytes the pinned ones."""
    for file, sha256 in tomllib.loads(LIST.read_text("utf-8"))["wheels"].items():
        if wanted and not any(part in file for part in wanted):
            continue
        path = cache / sha256[:16] / file
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(file, sha256, path)
        with path.open("rb") as wheel:
            found = hashlib.file_digest(wheel, "sha256").hexdigest()
        if found != sha256:
            raise SystemExit(f"{path} is not the pinned file: its SHA-256 is {found}")
        yield path


def _download(file: str, sha256: str, path: Path) -> None:
    name, release, python, abi, platforms = file.removesuffix(".whl").split("-")
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{name}=={release} --hash=sha256:{sha256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        command += [
            scratch,
            "--require-hashes",
            "--only-binary=:all:",
            "--requirement",
            str(wanted),
        ]
        if platforms != "any":
            command += ["--python-version", "3.11", "--implementation", python[:2], "--abi", abi]
            command += [part for text in platforms.split(".") for part in ("--platform", text)]
        subprocess.run(command, check=True, timeout=_TIMEOUT)
        Path(scratch, file).replace(path)


@contextlib.contextmanager
def _programs() -> Iterator[dict[str, str]]:
    """An environment in which delocate finds Apple's tools, or LLVM's under their names."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in _shims().items():
            program = Path(folder, name)
            program.write_text(text, "utf-8")
            program.chmod(0o755)
        path = f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def _shims() -> dict[str, str]:
    """otool and lipo by LLVM, where the machine has no tools of Apple's.

    llvm-otool knows no -m and ignores -arch; llvm-objdump prints the same with --arch=all.
    """
    objdump = _found("llvm-objdump")
    if shutil.which("otool") or not objdump:
        return {}
    otool = f"""#!/bin/sh
for last; do :; done
case "$*" in
*" -L "*) exec {objdump} --macho --arch=all --dylibs-used "$last" ;;
*" -D "*) exec {objdump} --macho --arch=all --dylib-id "$last" ;;
*) exec {objdump} --macho --arch=all --private-headers "$last" ;;
esac
"""
    lipo = f'#!/bin/sh\nexec {_found("llvm-lipo") or "false"} "$@"\n'
    return {"otool": otool, "lipo": lipo}


def _found(name: str) -> str | None:
    versions = (f"{name}-{number}" for number in range(30, 10, -1))
    return next(filter(None, map(shutil.which, (name, *versions))), None)


def _measured(path: Path, environment: dict[str, str], rounds: int) -> Row:
    with zipfile.ZipFile(path) as archive:
        largest = max(info.file_size for info in archive.infolist())
    tools = ["unit", "judge", *_peers(path.name)]
    return Row(
        name=path.name,
        size=path.stat().st_size,
        largest=largest,
        by_tool={tool: _measure_apart(tool, path, environment, rounds) for tool in tools},
    )


def _peers(name: str) -> list[str]:
    if "linux" in name:
        return ["auditwheel"]
    return ["delocate"] if "macosx" in name and (shutil.which("otool") or _shims()) else []


def _measure_apart(
    tool: str, path: Path, environment: dict[str, str], rounds: int
) -> Measured | None:
    command = [sys.executable, __file__, "--one", tool, "--rounds", str(rounds), str(path)]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT
    )
    if run.returncode:
        print(f"{tool} failed on {path.name}: {run.stderr[-500:]}", file=sys.stderr)
        return None
    return Measured(**json.loads(run.stdout))


def _measure_here(tool: str, path: Path, rounds: int) -> int:
    """Run `tool` on `path` in this process, some times, and print what it took as JSON."""
    work = TOOLS[tool]()
    with contextlib.suppress(AttributeError):
        os.sched_setaffinity(0, {0})
    before = _peak_from_now()
    with tempfile.TemporaryDirectory() as scratch:
        # auditwheel remembers what it read by its path, so each round has a path of its own.
        copies = [Path(scratch, str(number), path.name) for number in range(rounds + 1)]
        _warm_up, *times = [_time_of(work, path, copy) for copy in copies]
    print(json.dumps({"seconds": min(times), "memory": _peak() - before}))
    return 0


def _time_of(work: Callable[[Path], Any], path: Path, copy: Path) -> float:
    """Processor time of `work` on a copy of the wheel, with that of its child processes."""
    copy.parent.mkdir()
    shutil.copyfile(path, copy)
    start, below = time.process_time(), _children()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work(copy)
    return time.process_time() - start + _children() - below


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_from_now() -> int:
    """Forget the peak so far, where the system can, and give where it begins; in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _peak()


def _peak() -> int:
    """The most memory in use so far, in bytes. On Linux ru_maxrss is inherited from the parent."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text("ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


def _unit() -> Callable[[Path], Any]:
    def unit(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                digest = hashlib.sha256()
                with archive.open(info) as member:
                    while piece := member.read(_CHUNK):
                        digest.update(piece)

    return unit


def _judge() -> Callable[[Path], Any]:
    from builder.judge import judge

    return judge


def _auditwheel() -> Callable[[Path], Any]:
    from auditwheel.main import main as auditwheel

    return lambda path: _called(auditwheel, "auditwheel", "show", str(path))


def _delocate() -> Callable[[Path], Any]:
    from delocate.cmd.delocate_listdeps import main as listdeps

    return lambda path: _called(listdeps, "delocate-listdeps", "--all", str(path))


def _called(program: Callable[[], Any], *argv: str) -> None:
    sys.argv = list(argv)
    status = program()
    if status:
        raise SystemExit(status)


TOOLS: dict[str, Callable[[], Callable[[Path], Any]]] = {
    "unit": _unit,
    "judge": _judge,
    "auditwheel": _auditwheel,
    "delocate": _delocate,
}


def _report(rows: list[Row]) -> str:
    head = (
        "| wheel | MB | unit, ms | judge() | auditwheel show | delocate-listdeps | memory |\n"
        "|---|---|---|---|---|---|---|"
    )
    lines = [_machine(), "", head, *map(_row_text, rows), "", *_sums(rows)]
    return "\n".join(lines)


def _machine() -> str:
    tools = ", ".join(f"{name} {version(name)}" for name in ("auditwheel", "delocate"))
    system = f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"
    python = f"Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}; {system}; {python}; {tools}."


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _row_text(row: Row) -> str:
    unit = row.by_tool["unit"]
    cells = [row.name, f"{row.size / _MEGABYTE:.1f}", f"{unit.seconds * 1000:.1f}" if unit else "–"]
    cells += [_times(row.ratio(tool, "unit")) for tool in ("judge", "auditwheel", "delocate")]
    return f"| {' | '.join([*cells, _times(row.memory_ratio)])} |"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def _sums(rows: list[Row]) -> Iterator[str]:
    """The ratios over all wheels together, against the targets."""
    yield f"- judge() over the unit, all {len(rows)} wheels: {_over(rows, 'judge', 'unit'):.2f}"
    for tool in ("auditwheel", "delocate"):
        both = [row for row in rows if row.by_tool.get(tool)]
        if both:
            yield f"- {tool} over judge(), {len(both)} wheels: {_over(both, tool, 'judge'):.1f}"
    memory = [ratio for row in rows if (ratio := row.memory_ratio) is not None]
    if memory:
        yield f"- memory over the largest member, at most: {max(memory):.2f}"


def _over(rows: list[Row], tool: str, other: str) -> float:
    pairs = [(row.by_tool[tool], row.by_tool[other]) for row in rows]
    known = [(one.seconds, two.seconds) for one, two in pairs if one and two]
    return sum(one for one, _ in known) / sum(two for _, two in known)


if __name__ == "__main__":
    sys.exit(main())
