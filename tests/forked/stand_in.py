"""What a test starts for a command: it hands its streams to the template, and ends as that ends."""

import json
import os
import signal
import socket
import sys

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Have the command run, then end as it did. When this is killed, so is the command."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        order = [sys.argv[2:], os.getcwd(), dict(os.environ)]  # noqa: PTH109
        socket.send_fds(connection, [b"streams"], [0, 1, 2])
        connection.sendall(json.dumps(order).encode() + b"\n")
        answer = connection.makefile()
        process = int(answer.readline())
        for each in _PASSED_ON:
            signal.signal(each, lambda number, _: os.kill(process, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        _end(int(answer.readline()))


def _end(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


main()
