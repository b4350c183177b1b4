import os


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    os.symlink("/etc/passwd", os.path.join(wheel_directory, "link_wheel-1.0-py3-none-any.whl"))
    return "link_wheel-1.0-py3-none-any.whl"
