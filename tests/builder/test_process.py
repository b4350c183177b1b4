from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builder.process import (
    CANNOT_START,
    Command,
    Ended,
    Limits,
    _keeper_argv,
    network_can_be_cut,
    run,
)

# Forks twice, leaves its session and closes its output: nothing ties it to who started it.
DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
os.rename(sys.argv[1], sys.argv[2])
for fd in (0, 1, 2): os.close(fd)
while True: time.sleep(60)
"""
START_DAEMON = """
import os, subprocess, sys, time
subprocess.run([sys.executable, "-c", *sys.argv[1:4]])
while not os.path.exists(sys.argv[3]): time.sleep(0.01)
print("started", flush=True)
if sys.argv[4] == "stay": time.sleep(60)
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_CHILD_SUBREAPER")


def shell(line: str, tmp_path: Path, limits: Limits | None = None, **env: str) -> Ended:
    command = Command(
        argv=["/bin/sh", "-c", line],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", **env},
        limits=limits or Limits(),
    )
    return run(command, tmp_path / "log")


def said(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def daemon_command(tmp_path: Path, then: str, limits: Limits) -> Command:
    pid_file = tmp_path / "pid"
    script = [DAEMON, f"{pid_file}.part", str(pid_file)]
    return Command(
        argv=[sys.executable, "-c", START_DAEMON, *script, then],
        cwd=tmp_path, env={}, limits=limits,
    )  # fmt: skip


def test_output_goes_to_the_log_and_the_status_comes_back(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    ended = shell("echo out; echo err >&2; exit 3", tmp_path)
    assert (ended.ending, ended.status, ended.ok) == ("exit", 3, False)
    assert said(tmp_path) == "before\nout\nerr\n"
    assert (ended.log_start, ended.log_end) == (7, 15)


def test_a_program_killed_by_a_signal_says_which(tmp_path: Path) -> None:
    assert shell("kill -SEGV $$", tmp_path).status == 128 + signal.SIGSEGV


def test_a_program_that_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    ended = run(Command(argv=["/nowhere/cc"], cwd=tmp_path, env={}), tmp_path / "log")
    assert ended.status == CANNOT_START
    assert "cannot start /nowhere/cc: " in said(tmp_path)
    assert "Traceback" not in said(tmp_path)


def test_nothing_of_our_environment_gets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    shell("env", tmp_path, ONLY="this")
    assert "hunter2" not in said(tmp_path)
    assert "ONLY=this" in said(tmp_path)


def test_a_program_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    ended = shell("while :; do echo on; sleep 0.05; done", tmp_path, Limits(timeout_seconds=0.5))
    assert ended.ending == "timeout"


def test_a_program_that_says_nothing_is_stopped(tmp_path: Path) -> None:
    ended = shell("echo once; sleep 60", tmp_path, Limits(silence_seconds=0.3))
    assert ended.ending == "silence"
    assert said(tmp_path) == "once\n"


def test_a_program_that_closed_its_output_is_still_held_to_the_clock(tmp_path: Path) -> None:
    ended = shell("exec >&- 2>&-; sleep 60", tmp_path, Limits(timeout_seconds=0.4))
    assert ended.ending == "timeout"


def test_a_flood_is_cut_at_the_limit(tmp_path: Path) -> None:
    ended = shell("yes", tmp_path, Limits(log_bytes=10_000))
    assert ended.ending == "flood"
    assert (tmp_path / "log").stat().st_size == 10_000


def test_a_file_has_a_largest_size_and_there_is_no_core_file(tmp_path: Path) -> None:
    shell("ulimit -c; ulimit -f", tmp_path, Limits(file_bytes=512 * 1024))
    assert said(tmp_path).split()[0] == "0"
    ended = shell("head -c 2000000 /dev/zero > big", tmp_path, Limits(file_bytes=512 * 1024))
    assert not ended.ok
    assert (tmp_path / "big").stat().st_size <= 512 * 1024


@linux_only
@pytest.mark.parametrize("then", ["go", "stay"])
def test_a_daemon_that_cut_every_tie_is_killed(tmp_path: Path, then: str) -> None:
    limits = Limits(timeout_seconds=30, silence_seconds=1.0 if then == "stay" else 30)
    ended = run(daemon_command(tmp_path, then, limits), tmp_path / "log")
    assert ended.ending == ("silence" if then == "stay" else "exit")
    assert "started" in said(tmp_path)
    assert not alive(int((tmp_path / "pid").read_text()))


@linux_only
def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(daemon_command(tmp_path, "stay", Limits(timeout_seconds=30)), tmp_path / "log")
    thread.join()
    assert not alive(int((tmp_path / "pid").read_text()))


@linux_only
def test_when_we_are_killed_the_keeper_still_buries(tmp_path: Path) -> None:
    ours = f"""
import sys
from pathlib import Path
from builder.process import Command, run
run(Command(argv={daemon_command(tmp_path, "stay", Limits()).argv!r}, cwd=Path({str(tmp_path)!r}),
            env={{}}), Path({str(tmp_path / "log")!r}))
"""
    root = str(Path(__file__).parents[2])
    us = subprocess.Popen([sys.executable, "-c", ours], env={"PYTHONPATH": root})
    while not (tmp_path / "pid").exists():
        assert us.poll() is None
        time.sleep(0.01)
    us.kill()
    us.wait()
    deadline = time.monotonic() + 20
    daemon = int((tmp_path / "pid").read_text())
    while alive(daemon) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(daemon)


@pytest.mark.skipif(not network_can_be_cut(), reason="the kernel gives no network namespace here")
def test_without_a_network_there_is_only_loopback(tmp_path: Path) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0)); socket.create_connection(server.getsockname())
print("loopback")
try: socket.create_connection(("192.0.2.1", 9), timeout=5)
except OSError as error: print(type(error).__name__, error.errno)
"""
    command = Command(argv=[sys.executable, "-c", code], cwd=tmp_path, env={}, network=False)
    run(command, tmp_path / "log")
    assert said(tmp_path).splitlines() == ["loopback", "OSError 101"]


def test_the_keeper_ends_what_it_keeps_when_its_leash_is_let_go(tmp_path: Path) -> None:
    line = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    keeper = subprocess.Popen(
        _keeper_argv(["/bin/sh", "-c", line], file_bytes=1 << 20, network=True),
        stdin=subprocess.PIPE, start_new_session=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
        time.sleep(0.01)
    kept = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{kept}/fd/0").readlink() == Path("/dev/null")
    assert keeper.stdin is not None
    keeper.stdin.close()
    assert keeper.wait(60) == 128 + signal.SIGTERM
    assert not alive(kept)
