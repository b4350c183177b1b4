"""The same judge under libFuzzer, which grows inputs towards code that was not reached before.

    python -m tests.builder.robustness.coverage_guided FORMAT -runs=100000 [libFuzzer options]

Needs the optional extra `fuzz` (atheris). A crash is written to the current folder by libFuzzer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["builder"]):
    from tests.builder.robustness.attempt import attempt
    from tests.builder.robustness.seeds import seeds_of


def main() -> None:
    """Fuzz one format, from the seeds that the tests have."""
    kind, options = sys.argv[1], sys.argv[2:]
    scratch = Path(tempfile.mkdtemp(prefix="wheelfarm-fuzz-"))
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds_of(kind)):
        (corpus / str(number)).write_bytes(seed)

    def one_input(data: bytes) -> None:
        tried = attempt(kind, data, scratch)
        if tried.crashed:
            raise AssertionError(tried.crashed)

    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
