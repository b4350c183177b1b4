"""What can go wrong while deciding what to build, and while building it on several processes."""

from __future__ import annotations

from store.errors import (
    FARM_TROUBLE,
    REFUSED,
    MalformedError,
    NotAllowedError,
    NotFoundError,
    PolicyError,
    UsageError,
    WheelfarmError,
)
from store.verdict import Finding


class RequirementsError(MalformedError):
    """A requirements or lock file asks for something that cannot be built exactly."""

    code = "bad-requirements"


class SettingsError(MalformedError):
    """`wheelfarm.toml` does not say what it should."""

    code = "bad-settings"


class TargetSpecError(UsageError):
    """A ``--target`` is neither a known form nor a name from `wheelfarm.toml`."""

    code = "bad-target"


class ConflictingSourcesError(UsageError):
    """Two lines of one run name the same project at the same version with other bytes."""

    code = "conflicting-sources"


class NoChoiceError(WheelfarmError):
    """No set of an index's wheels is all that was asked for."""

    code = "no-choice"
    exit_status = REFUSED
    http_status = 409


class WorkerDiedError(WheelfarmError):
    """A worker process ended without an answer: killed, or out of memory."""

    code = "worker-died"
    exit_status = FARM_TROUBLE
    transient = True


class ServerError(WheelfarmError):
    """A wheelfarm server does not answer, or something else answers in its place."""

    code = "server-trouble"
    exit_status = FARM_TROUBLE
    transient = True


class SystemTroubleError(WheelfarmError):
    """The operating system refused something that was needed; often the disk is full."""

    code = "system-trouble"
    exit_status = FARM_TROUBLE
    transient = True


class MayNotPublishError(WheelfarmError):
    """A worker may not write what it has to: the catalogue, or the blobs."""

    code = "may-not-publish"
    exit_status = FARM_TROUBLE


class ToolchainChangedError(WheelfarmError):
    """A compiler or an interpreter was replaced under a worker."""

    code = "toolchain-changed"
    exit_status = FARM_TROUBLE
    transient = True


class TransitionError(UsageError):
    """What was asked of a job cannot happen in the state that it is in."""

    code = "wrong-state"
    http_status = 409


class LeaseLostError(WheelfarmError):
    """A worker's lease on a job is gone: it lapsed, or the job was cancelled."""

    code = "lease-lost"
    exit_status = FARM_TROUBLE
    http_status = 409
    transient = True


class UnknownJobError(NotFoundError):
    """The farm has no job, submission or worker of that name."""

    code = "unknown-job"


class UntrustedError(NotAllowedError):
    """An identity token of a CI system is no good, or no ``[[trust]]`` table trusts it."""

    code = "untrusted"


class IssuerUnreachableError(WheelfarmError):
    """The issuer of identity tokens gives no keys; the same call may work later."""

    code = "issuer-unreachable"
    exit_status = FARM_TROUBLE
    http_status = 502
    transient = True


class WheelRefusedError(WheelfarmError):
    """A wheel that was made elsewhere is not what it says; `findings` are what was seen in it."""

    code = "wheel-refused"
    exit_status = REFUSED
    http_status = 422

    def __init__(
        self, message: str, *, hint: str | None = None, findings: tuple[Finding, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class UploadRefusedError(WheelRefusedError):
    """What was uploaded is not what its name, its tags or its form say, or serves nobody here."""

    code = "upload-refused"


class AdoptionRefusedError(WheelRefusedError):
    """A wheel of an index is not what its name, its tags or the index say."""

    code = "adoption-refused"
    http_status = 403


class ServesNobodyError(PolicyError):
    """The tags that hold of a wheel are for none of the targets that it was wanted for."""

    code = "serves-nobody"


class NoWheelError(NotFoundError):
    """The index has the version, but no wheel of it that the target takes."""

    code = "no-wheel"
    exit_status = REFUSED


class NotFromUpstreamError(NotFoundError):
    """A rule under ``[upstream]`` keeps a project, or a file of it, from being looked up there."""

    code = "not-from-upstream"


class UpstreamBusyError(WheelfarmError):
    """A file of an index is still being fetched and looked at; the same call works later."""

    code = "upstream-busy"
    exit_status = FARM_TROUBLE
    http_status = 503
    transient = True


class FarmRefusedError(UsageError):
    """A farm's server refused what was asked of it; its own code stands behind the sentence."""

    code = "farm-refused"
