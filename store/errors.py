"""Every error a person can meet has a code, a sentence, a hint and an exit status.

`WheelfarmError` is the one root. Each folder adds its own kinds in its own `errors.py`.
Errors are translated once at each edge: text or ``--json`` on the command line, a status
over HTTP, retry or not in a worker.
"""

from __future__ import annotations

from typing import ClassVar, Final

DONE: Final = 0
REFUSED: Final = 1
WRONG_USAGE: Final = 2
FARM_TROUBLE: Final = 3


class WheelfarmError(Exception):
    """Trouble that can be told in a sentence.

    `code` is kebab-case and never changes its meaning; `message` is one sentence that is
    safe to show to anyone; `hint` says what to do about it. `exit_status` follows DONE,
    REFUSED, WRONG_USAGE and FARM_TROUBLE; `http_status` is what a server answers;
    `transient` says whether the same call may work later without a change.
    """

    code: ClassVar[str] = "farm-trouble"
    exit_status: ClassVar[int] = FARM_TROUBLE
    http_status: ClassVar[int] = 500
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, str | None]:
        """The error as one JSON object: code, message, hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class UsageError(WheelfarmError):
    """The call, its arguments or its configuration are wrong; nothing was done."""

    code = "usage"
    exit_status = WRONG_USAGE
    http_status = 400


class MalformedError(UsageError):
    """A text that should name or describe something does not follow its grammar.

    `path` grows on the way out (``packages[3].hashes``), so that the message names the place.
    """

    code = "malformed"

    def __init__(self, message: str, *, hint: str | None = None, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        self.bare_message = message
        self.path = path

    def under(self, prefix: str) -> MalformedError:
        """The same error, seen from the object that holds this one."""
        joined = f"{prefix}.{self.path}" if self.path else prefix
        return MalformedError(self.bare_message, hint=self.hint, path=joined)
