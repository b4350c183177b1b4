"""A backend of its own, which writes a good pure wheel."""

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("building pure")
    return write_wheel(wheel_directory, "pure")
