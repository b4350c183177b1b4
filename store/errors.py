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


class StoreError(WheelfarmError):
    """The store's folder or catalogue cannot be read or written; nothing was half done."""

    code = "store-trouble"


class BlobsUnreachableError(StoreError):
    """The bucket that holds the blobs does not answer; the same call may work later."""

    code = "blobs-unreachable"
    http_status = 503
    transient = True


class StoreUnreachableError(StoreError):
    """The server of the catalogue is away, refuses the login, or is too busy to answer now."""

    code = "store-unreachable"
    http_status = 503
    transient = True


class OutdatedError(StoreError):
    """The catalogue was brought to a newer form under a process that does not know it.

    Nothing was written into that form, and nothing can be until the process is a newer one.
    """

    code = "outdated"
    http_status = 503


class UpstreamAwayError(WheelfarmError):
    """An index upstream does not answer, and what was asked for is not here yet."""

    code = "upstream-away"
    http_status = 503
    transient = True


class NotAStoreError(UsageError):
    """The folder, database or bucket given as a store's is not, or a newer wheelfarm made it."""

    code = "not-a-store"


class NotABackupError(UsageError):
    """The folder holds no whole backup, one of another store, or a newer wheelfarm made it."""

    code = "not-a-backup"


class DamagedBackupError(StoreError):
    """A file of a backup is missing, or is not what was written."""

    code = "damaged-backup"


class NotEmptyError(UsageError):
    """A backup was to be restored into a store that holds something already."""

    code = "not-empty"


class PolicyError(WheelfarmError):
    """A rule of the channel, of the target or of the policy forbids it."""

    code = "policy"
    exit_status = REFUSED
    http_status = 403


class NameTakenError(WheelfarmError):
    """A file name that is published already was to get other bytes, or the bytes another name."""

    code = "name-taken"
    exit_status = REFUSED
    http_status = 409


class DisownedError(WheelfarmError):
    """What was asked for, or what went into it, was disowned: taken back for a reason."""

    code = "disowned"
    exit_status = REFUSED
    http_status = 410


class QuotaError(WheelfarmError):
    """A channel has no room for another wheel."""

    code = "quota"
    exit_status = REFUSED
    http_status = 403


class NotProvenError(WheelfarmError):
    """What the store read in the bytes is not what it was told about them."""

    code = "not-proven"
    exit_status = REFUSED
    http_status = 422


class KeyTroubleError(StoreError):
    """A signing key, or the list of keys, cannot be read, or others may read it."""

    code = "key-trouble"


class ProvenanceError(WheelfarmError):
    """A signed statement says nothing about the wheel that may be believed."""

    code = "bad-provenance"
    exit_status = REFUSED
    http_status = 422


class BadSignatureError(ProvenanceError):
    """A signature does not fit the statement: the statement, or the signature, was changed."""

    code = "bad-signature"


class UnsignedError(ProvenanceError):
    """The envelope bears no signature."""

    code = "unsigned"


class UnknownKeyError(ProvenanceError):
    """A signature is of a key that is not among those to be trusted."""

    code = "unknown-key"


class KeyExpiredError(ProvenanceError):
    """The wheel was published after the key that signed for it was replaced."""

    code = "key-expired"


class WrongStatementError(ProvenanceError):
    """What was signed is no statement of a kind that wheelfarm makes and knows how to read."""

    code = "wrong-statement"


class WrongSubjectError(ProvenanceError):
    """The statement is about another wheel: another name, or other bytes."""

    code = "wrong-subject"


class UnauthorizedError(UsageError):
    """Root of the errors about who asks: the client may ask again with another token."""

    code = "unauthorized"
    http_status = 401


class TokenNeededError(UnauthorizedError):
    """No token was sent, and it takes one (RFC 9110, section 15.5.2)."""

    code = "token-needed"


class BadTokenError(UnauthorizedError):
    """What was sent as a token is none, or is not one that this farm knows."""

    code = "bad-token"


class TokenExpiredError(UnauthorizedError):
    """The token was good, and its time is over."""

    code = "token-expired"


class TokenRevokedError(UnauthorizedError):
    """The token was good, and was revoked."""

    code = "token-revoked"


class NotAllowedError(UsageError):
    """The token is good, and does not give the right that it takes, or not in that channel."""

    code = "not-allowed"
    http_status = 403


class NotFoundError(UsageError):
    """The store has nothing of that name or digest."""

    code = "not-found"
    http_status = 404


class UnknownIndexError(NotFoundError):
    """The channel serves no such fingerprint."""

    code = "unknown-index"


class UnknownProjectError(NotFoundError):
    """The index has no wheel of that project."""

    code = "unknown-project"


class UnknownFileError(NotFoundError):
    """The index serves no file of that name."""

    code = "unknown-file"


class NoSigningKeyError(NotFoundError):
    """There is no key to sign with, or to hold a signature against."""

    code = "no-signing-key"


class NotAcceptableError(UsageError):
    """The client takes none of the forms in which the page exists (RFC 9110, section 15.5.7)."""

    code = "not-acceptable"
    http_status = 406


class BodyTooLargeError(UsageError):
    """The body of a request is beyond the limit."""

    code = "body-too-large"
    http_status = 413


class HeadersTooLargeError(UsageError):
    """The headers or the path of a request are beyond the limit (RFC 6585, section 5)."""

    code = "headers-too-large"
    http_status = 431


class BodyTimeoutError(UsageError):
    """The body of a request did not arrive in time (RFC 9110, section 15.5.9)."""

    code = "body-timeout"
    http_status = 408


class RangeError(UsageError):
    """No byte of the file lies in the range asked for (RFC 9110, section 15.5.17).

    `size` is the size of the file in bytes.
    """

    code = "range"
    http_status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins after the file's {size} bytes")
        self.size = size
