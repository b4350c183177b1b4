"""Builds a good wheel after $SECONDS, without any work meanwhile."""

import os
import time

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("taking a nap", flush=True)
    time.sleep(float(os.environ["SECONDS"]))
    return write_wheel(wheel_directory, "naps")
