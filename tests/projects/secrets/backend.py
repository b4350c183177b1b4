import os

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for key, value in sorted(os.environ.items()):
        print("%s=%s" % (key, value))
    print("home holds", os.listdir(os.path.expanduser("~")))
    return write_wheel(wheel_directory, "secrets")
