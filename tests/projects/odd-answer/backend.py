import os
import sys


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    os.mkfifo(os.path.join(sys.argv[2], "output.json"))
    os._exit(0)
