"""Builds an extension module, or, with WITHOUT=1, quietly falls back to pure Python."""

import os
import subprocess
import sys
import sysconfig

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if os.environ.get("WITHOUT"):
        return write_wheel(wheel_directory, "two-minded")
    cc = ["cc", "-shared", "-fPIC", "-O1", "-Wl,--build-id=none"]
    include = "-I" + sysconfig.get_path("include")
    subprocess.run([*cc, include, "-o", "fast.so", "fast.c"], check=True)
    with open("fast.so", "rb") as module:
        files = {"two_minded/_fast" + sysconfig.get_config_var("EXT_SUFFIX"): module.read()}
    version = "cp%d%d" % sys.version_info[:2]
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return write_wheel(
        wheel_directory, "two-minded", files, "%s-%s-%s" % (version, version, platform)
    )
