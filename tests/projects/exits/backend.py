import os
import sys


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("checking for libfoo... no")
    print("src/exits.c:7:10: fatal error: foo/foo.h: No such file or directory")
    print("compilation terminated.")
    print("error: command '/usr/bin/cc' failed with exit code 1")
    sys.stdout.flush()
    os._exit(3)
