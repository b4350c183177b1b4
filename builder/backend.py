"""Call the backend's hooks (PEP 517) and take what they give for what it is: a stranger's word."""

from __future__ import annotations

import json
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from build import BuildBackendException, BuildException, ProjectBuilder
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pyproject_hooks import BackendUnavailable

from builder.diagnose import disk_is_full, first_error, out_of_memory, plain
from builder.failure import StepFailed
from builder.isolation import IsolatedEnvironment
from builder.process import Command, Ended, Limits, run
from builder.sdist import sdist_name
from builder.stages import FailureKind
from store.provenance import Recipe, Source

_T = TypeVar("_T")
_LARGEST_ANSWER: Final = 1 << 20
_LARGEST: Final = 4 << 30
_KILLED: Final = 128 + 9
_FILE_TOO_LARGE: Final = 128 + 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The backend of one source tree, its hooks to be run in one isolated environment.

    `env` is the whole environment of the hooks, `settings` the config settings for them.
    """

    tree: Path
    isolated: IsolatedEnvironment
    env: Mapping[str, str]
    settings: Mapping[str, str]
    recipe: Recipe
    log: Path

    def requirements_for(self, what: Literal["sdist", "wheel"]) -> list[str]:
        """What ``get_requires_for_build_WHAT`` asks for, sorted. Raises StepFailed."""
        return sorted(self._call(lambda b: b.get_requires_for_build(what, dict(self.settings))))

    def build_wheel(self, source: Source, folder: Path) -> Path:
        """Have the wheel of `source` built into the new folder `folder`. Raises StepFailed."""
        folder.mkdir()
        self._call(lambda b: b.build("wheel", folder, dict(self.settings)))
        return the_wheel(folder, source)

    def build_sdist(self, folder: Path) -> Path:
        """Have the tree's sdist built into the new folder `folder`.

        Raises StepFailed, SdistError for a file name that is none of an sdist.
        """
        folder.mkdir()
        self._call(lambda b: b.build("sdist", folder, dict(self.settings)))
        sdist = _the_one(folder, ".tar.gz", "sdist")
        sdist_name(sdist.name)
        return sdist

    def _call(self, hook: Callable[[ProjectBuilder], _T]) -> _T:
        start = self.log.stat().st_size if self.log.exists() else 0
        try:
            with warnings.catch_warnings():
                # What a hook warns of is in the log; here it would go to our own stderr.
                warnings.simplefilter("ignore")
                return hook(ProjectBuilder.from_isolated_env(self.isolated, self.tree, self._run))
        except BuildBackendException as error:
            raise self._translated(error.exception, start) from error
        except (BuildException, ValueError, TypeError) as error:
            raise StepFailed("build", f"its backend cannot be called: {error}") from error

    def _run(
        self,
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        """pyproject-hooks' runner: one hook, in `cwd`, to its end. Raises StepFailed."""
        hook, control = cmd[-2], Path(cmd[-1])
        limits = Limits(
            timeout_seconds=self.recipe.timeout_seconds,
            silence_seconds=self.recipe.silence_seconds,
        )
        env = {**self.env, **(extra_environ or {})}
        command = Command(
            argv=cmd, cwd=Path(cwd or self.tree), env=env, limits=limits, network=False
        )
        ended = run(command, self.log)
        if not ended.ok:
            raise self._failed(hook, ended, limits)
        _refuse_odd_answer(hook, control / "output.json")

    def _failed(self, hook: str, ended: Ended, limits: Limits) -> StepFailed:
        kind, message, hint = _what_happened(hook, ended, limits)
        if kind == "build" and (
            ended.status == _KILLED or out_of_memory(self.log, ended.log_start)
        ):
            kind, message = "memory", f"{hook} was killed, most likely because memory ran out"
            hint = "give the build a larger machine, or fewer jobs beside it"
        error = first_error(self.log, ended.log_start)
        if disk_is_full(self.log.parent):
            raise _no_space(error)
        return StepFailed(kind, message, hint=hint, first_error=error)

    def _translated(self, error: Exception, start: int) -> StepFailed:
        if isinstance(error, StepFailed):
            return error
        if isinstance(error, BackendUnavailable):
            name = plain(str(error.backend_name))[:200]
            return StepFailed(
                "build", f"its backend {name!r} cannot be imported",
                first_error=plain(error.traceback.strip().rpartition("\n")[2])[:400] or None,
                hint="a build requirement may be missing: extra-build-requires in its recipe",
            )  # fmt: skip
        what = plain(str(error))[:200] or type(error).__name__
        if disk_is_full(self.log.parent):
            return _no_space(what)
        return StepFailed(
            "build", f"its backend gave no usable answer: {what}",
            first_error=first_error(self.log, start),
        )  # fmt: skip


def _no_space(first: str | None) -> StepFailed:
    return StepFailed(
        "infrastructure", "the disk on which it was built is full", first_error=first,
        hint="make room in the cache folder, or set another with $WHEELFARM_CACHE",
    )  # fmt: skip


def the_wheel(folder: Path, source: Source) -> Path:
    """The one wheel in `folder`, which has to be that of `source`. Raises StepFailed.

    Looked for in the folder, not taken from the hook's answer: the answer may lie.
    """
    wheel = _the_one(folder, ".whl", "wheel")
    _refuse_other_name(wheel.name, source)
    return wheel


def _the_one(folder: Path, suffix: str, what: str) -> Path:
    """The one file of a kind in `folder`. Raises StepFailed."""
    found = sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
    if not found:
        raise StepFailed("build", f"its backend ended well, but wrote no {what}")
    if len(found) > 1:
        names = ", ".join(ascii(path.name[:120]) for path in found[:4])
        raise StepFailed("build", f"its backend wrote {len(found)} {what}s, not one: {names}")
    _refuse_odd_file(found[0], what)
    return found[0]


def _refuse_odd_file(path: Path, what: str) -> None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise StepFailed("build", f"its backend wrote a link or a folder in place of a {what}")
    if status.st_size > _LARGEST:
        raise StepFailed("policy", f"its {what} is larger than {_LARGEST} bytes")


def _refuse_other_name(filename: str, source: Source) -> None:
    try:
        name, version, _build, _tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise StepFailed(
            "build",
            f"its backend wrote {filename[:200]!a}, which is no wheel's name (PEP 427)",
        ) from error
    if name != source.name:
        raise StepFailed("build", f"its backend built another project: {name}, not {source.name}")
    if version != Version(source.version):
        raise StepFailed(
            "build", f"its backend built another version: {version}, not {source.version}",
            hint="a version taken from git or a clock: set it by env in its recipe",
        )  # fmt: skip


def _what_happened(hook: str, ended: Ended, limits: Limits) -> tuple[FailureKind, str, str | None]:
    if ended.ending == "timeout":
        hint = "timeout-seconds in its recipe gives it longer"
        return "timeout", f"{hook} took longer than {limits.timeout_seconds:g} s", hint
    if ended.ending == "silence":
        hint = "silence-seconds in its recipe gives it longer"
        return "silence", f"{hook} printed nothing for {limits.silence_seconds:g} s", hint
    if ended.ending == "flood":
        return "policy", f"{hook} printed more than {limits.log_bytes} bytes", None
    if ended.status == _FILE_TOO_LARGE:
        return "policy", f"{hook} wrote a file of more than {limits.file_bytes} bytes", None
    if ended.status > 128:
        return "build", f"{hook} was killed by signal {ended.status - 128}", None
    return "build", f"{hook} ended with status {ended.status}", None


def _refuse_odd_answer(hook: str, output: Path) -> None:
    """Refuse what pyproject-hooks would choke on: no answer, a pipe, too much, another type."""
    try:
        status = output.lstat()
    except FileNotFoundError:
        raise StepFailed("build", f"{hook} ended without an answer") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_ANSWER:
        raise StepFailed("build", f"{hook} gave an answer that is no file, or is too large")
    try:
        answer = json.loads(output.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StepFailed("build", f"{hook} gave an answer that cannot be read") from error
    if not isinstance(answer, dict) or not _right_type(hook, answer):
        raise StepFailed("build", f"{hook} gave an answer of the wrong type")


def _right_type(hook: str, answer: Mapping[str, object]) -> bool:
    if any(answer.get(word) for word in ("no_backend", "hook_missing", "unsupported")):
        return True  # pyproject-hooks has an error of its own for each
    value = answer.get("return_val")
    if hook.startswith("get_requires"):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str)
