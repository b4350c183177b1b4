import os


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(os.path.join(wheel_directory, "odd name.whl"), "wb"):
        pass
    return "odd name.whl"
