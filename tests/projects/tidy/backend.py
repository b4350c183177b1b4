"""Leaves folders behind that nobody may write to."""

import os

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    os.makedirs("sealed/deep")
    open("sealed/deep/file", "w").close()
    os.chmod("sealed/deep", 0o000)
    os.chmod("sealed", 0o500)
    return write_wheel(wheel_directory, "tidy")
