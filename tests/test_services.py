"""The servers of the tests themselves: empty for each test, gone with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from tests.services import redis_answers

_START = """
import sys
from tests.services import running_redis
with running_redis() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("time", ["first", "second"])
def test_redis_is_empty_for_each_test(redis_url: str, time: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


def test_a_server_ends_with_a_process_that_was_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert redis_answers(url)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ends = time.monotonic() + 60
    while redis_answers(url):
        assert time.monotonic() < ends, "the server outlives its starter"
        time.sleep(0.02)
