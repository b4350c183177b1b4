from wheel_writer import write_wheel


def get_requires_for_build_wheel(config_settings=None):
    return ["six==1.16.0"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import six

    print("built with six", six.__version__)
    return write_wheel(wheel_directory, "asks-more")
