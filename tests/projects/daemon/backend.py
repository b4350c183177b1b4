"""Leaves a process behind that has cut every tie: its session, its parent, its output."""

import subprocess
import sys
import os

from wheel_writer import write_wheel


DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for fd in (0, 1, 2): os.close(fd)
while True: time.sleep(60)
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    subprocess.run([sys.executable, "-c", DAEMON, os.environ["DAEMON_MARK"]], check=True)
    return write_wheel(wheel_directory, "daemon")
