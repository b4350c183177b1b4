"""How a step of a build says, from deep inside, that there will be no wheel."""

from __future__ import annotations

from builder.stages import FailureKind
from store.provenance import BuildInputs
from store.verdict import Finding


class StepFailed(Exception):  # noqa: N818  it is a result on its way out, not an error
    """Carries what `builder.build` makes a BuildFailure of. It never leaves the builder.

    `inputs` is set by the step that knew them; `first_error` where the log is not the place
    to look for it.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        hint: str | None = None,
        first_error: str | None = None,
        findings: tuple[Finding, ...] = (),
        inputs: BuildInputs | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.first_error = first_error
        self.findings = findings
        self.inputs = inputs
