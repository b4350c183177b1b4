import os


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(os.path.join(wheel_directory, "someone_else-1.0-py3-none-any.whl"), "wb"):
        pass
    return "someone_else-1.0-py3-none-any.whl"
