"""A command that is forked off the template is a process as any other."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from store.publish import Store
from tests.forked import forked
from tests.workers.yard import until


@pytest.mark.parametrize("words", [["--version"], [], ["build"], ["explain", "x", "--store", "no"]])
def test_it_says_and_ends_as_one_that_was_started_alone(words: list[str], tmp_path: Path) -> None:
    alone = [sys.executable, "-m", "workers.cli", *words]
    ends = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        for command in (alone, forked(*words))
    ]
    assert ends[0].returncode == ends[1].returncode
    assert (ends[0].stdout, ends[0].stderr) == (ends[1].stdout, ends[1].stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_it(number: signal.Signals, tmp_path: Path) -> None:
    Store.open(tmp_path / "here").close()
    process = subprocess.Popen(
        forked("serve", "--port", 0), cwd=tmp_path, stdout=subprocess.PIPE,
        env={"WHEELFARM_STORE": "here"}, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert requests.get(f"{url}healthz", timeout=30).text.startswith("ok")
    process.send_signal(number)
    process.communicate()
    assert process.returncode in {-number, 130}

    def is_gone() -> bool:
        try:
            requests.get(f"{url}healthz", timeout=30)
        except requests.ConnectionError:
            return True
        return False

    until(is_gone)
