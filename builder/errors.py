"""What can go wrong while one sdist becomes one wheel.

A build that fails because of the sdist is a result (`builder.stages.BuildFailure`), not an
exception; these are for input that cannot be used at all, and for trouble with the farm.
"""

from __future__ import annotations

from store.errors import FARM_TROUBLE, REFUSED, MalformedError, UsageError, WheelfarmError
from store.verdict import Finding


class BuilderError(WheelfarmError):
    """Root of the builder's errors: trouble with the farm unless a kind says otherwise."""

    code = "builder"
    exit_status = FARM_TROUBLE


class BinaryError(BuilderError):
    """A Mach-O or ELF file breaks its own format: truncated, overlapping, or beyond a limit.

    `offset` is the byte offset in the member at which the reader stood.
    """

    code = "malformed-binary"
    exit_status = REFUSED

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class ArchiveError(BuilderError):
    """An sdist or wheel that cannot be opened safely: corrupt, hostile, or beyond a limit."""

    code = "unsafe-archive"
    exit_status = REFUSED


class RefusedWheelError(ArchiveError):
    """A wheel that cannot even be opened: `findings` say why, each of them an error."""

    code = "refused-wheel"

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(findings[0].message, hint=findings[0].hint)
        self.findings = findings


class VerifyPolicyError(MalformedError):
    """A ``--policy`` file is malformed, empty, or names a check that does not exist."""

    code = "bad-policy"


class InterpreterError(UsageError):
    """The path given as an interpreter does not run, or is no Python from 3.8 on."""

    code = "not-an-interpreter"


class UnbuildableTargetError(UsageError):
    """No toolchain on this machine can build for the target."""

    code = "unbuildable-target"


class IndexUnreachableError(BuilderError):
    """The package index did not answer, or not with something that can be used."""

    code = "index-unreachable"
    http_status = 502
    transient = True


class NoSuchProjectError(UsageError):
    """The index knows no project of that name."""

    code = "no-such-project"
    http_status = 404


class NoSuchVersionError(UsageError):
    """The index has the project, but no file of that version."""

    code = "no-such-version"
    http_status = 404


class NoSdistError(UsageError):
    """The version is there, but only as wheels: there is nothing to build."""

    code = "no-sdist"
    http_status = 404


class DigestError(BuilderError):
    """The bytes, or the index's word on them, differ from the digest that was asked for."""

    code = "hash-mismatch"
    exit_status = REFUSED


class TreeError(BuilderError):
    """A folder, or a checkout, of which no sdist can be made."""

    code = "no-sdist-of-tree"
    exit_status = REFUSED


class CheckoutError(BuilderError):
    """A git repository that cannot be had, or has no such revision."""

    code = "no-checkout"
    exit_status = REFUSED


class SdistError(UsageError):
    """A file that was given as an sdist is none, or is not the one that it says it is."""

    code = "not-an-sdist"
