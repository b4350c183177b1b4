"""How one package ended for one target, in the words of the final table and of ``--json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from store.digest import JSON
from store.errors import DONE, FARM_TROUBLE, REFUSED, WheelfarmError
from store.verdict import Finding
from workers.farm.work import Work

Status = Literal["hit", "built", "skipped", "refused", "failed", "trouble", "cancelled"]

STATUS_MEANING: Final[dict[Status, str]] = {
    "hit": "was in the store already",
    "built": "built, verified and published",
    "skipped": "its marker excludes this target",
    "refused": "built, but no true claim serves this target",
    "failed": "could not be built",
    "trouble": "the farm had trouble; the sdist is not to blame",
    "cancelled": "nobody wanted it any more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one package for one target.

    `code` is a failure kind or an error's code; `log` where a failed build's log is; `build_key`
    the BuildKey where the build got far enough to have one; `seconds` the whole seconds it took.
    """

    package: str
    version: str
    target: str
    fingerprint: str
    channel: str
    status: Status
    filename: str | None = None
    sha256: str | None = None
    code: str | None = None
    message: str | None = None
    first_error: str | None = None
    hint: str | None = None
    log: str | None = None
    findings: tuple[Finding, ...] = field(default=())
    build_key: str | None = None
    seconds: int = 0

    @property
    def label(self) -> str:
        """``NAME==VERSION``, or the name of the file that could not be read."""
        return f"{self.package}=={self.version}" if self.version else self.package

    def to_json(self) -> dict[str, JSON]:
        """The outcome as one JSON object."""
        return {
            "package": self.package,
            "version": self.version,
            "target": self.target,
            "fingerprint": self.fingerprint,
            "channel": self.channel,
            "status": self.status,
            "filename": self.filename,
            "sha256": self.sha256,
            "code": self.code,
            "message": self.message,
            "first_error": self.first_error,
            "hint": self.hint,
            "log": self.log,
            "findings": [finding.to_json() for finding in self.findings],
            "build_key": self.build_key,
            "seconds": self.seconds,
        }


def outcome_from_json(row: Mapping[str, Any]) -> Outcome:
    """The outcome whose `to_json` was `row`."""
    findings = tuple(Finding(**finding) for finding in row["findings"])
    return Outcome(**{**row, "findings": findings})


def outcome_of(
    work: Work, target: str, status: Status, *, error: WheelfarmError | None = None
) -> Outcome:
    """The outcome of `work`, for the target of that name, with the words of `error` if any."""
    return Outcome(
        package=work.source.name,
        version=work.source.version,
        target=target,
        fingerprint=work.fingerprint,
        channel=work.channel,
        status=status,
        code=error.code if error else None,
        message=error.message if error else None,
        hint=error.hint if error else None,
    )


def status_of(error: WheelfarmError) -> Status:
    """Whose fault an error is: the package's (`failed`) or the farm's (`trouble`)."""
    return "trouble" if error.transient or error.exit_status == FARM_TROUBLE else "failed"


def exit_status(outcomes: Iterable[Outcome]) -> int:
    """The exit status of a run: farm trouble outweighs a refusal, a refusal outweighs success."""
    statuses = {outcome.status for outcome in outcomes}
    if "trouble" in statuses:
        return FARM_TROUBLE
    return REFUSED if statuses & {"refused", "failed", "cancelled"} else DONE
