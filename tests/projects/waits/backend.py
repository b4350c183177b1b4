"""Builds a good wheel once the file at $GATE is there."""

import os
import time

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("waiting at the gate", flush=True)
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
    return write_wheel(wheel_directory, "waits")
