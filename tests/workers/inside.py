"""The command line inside the test's own process, where the test is not about processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from workers.cli import main


def wheelfarm(
    *words: str | Path,
    stdin: bytes = b"",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What `wheelfarm WORDS` does in a folder: its status, and all that it prints.

    An exception that the command lets through is raised: a process would print its traceback.
    """
    command = ["wheelfarm", *map(str, words)]
    with (
        contextlib.chdir(folder or Path.cwd()),
        patch.object(sys, "argv", command),
        patch.dict(os.environ, os.environ if environment is None else environment, clear=True),
        CliRunner().isolation(stdin) as (out, err, _),
    ):
        status = _status()
        text = (each.getvalue().decode("utf-8") for each in (out, err))
        return subprocess.CompletedProcess(command, status, *text)


def _status() -> int:
    with pytest.raises(SystemExit) as ended:
        main()
    status = ended.value.code
    assert isinstance(status, int)
    return status
