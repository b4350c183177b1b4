"""Links its module to a shared library of its own, and forgets to put that into the wheel.

With LIBRARY=lost nobody can find the library either. With LINK_PYTHON=1 it loads its libpython, too.
"""

import os
import subprocess
import sys
import sysconfig

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    here = os.getcwd()
    # A build id would be a digest of the rpath below, which is this build's own.
    cc = ["cc", "-shared", "-fPIC", "-O1", "-Wl,--build-id=none"]
    subprocess.run(
        [*cc, "-Wl,-soname,libfarmer.so.1", "-o", "libfarmer.so.1", "farmer.c"], check=True
    )
    link = ["-L.", "-l:libfarmer.so.1"]
    if os.environ.get("LIBRARY") != "lost":
        link.append("-Wl,-rpath," + here)
    if os.environ.get("LINK_PYTHON"):
        library, version = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDVERSION")
        link += ["-Wl,--no-as-needed", "-L" + library, "-lpython" + version]
        link.append("-Wl,-rpath," + library)
    include = "-I" + sysconfig.get_path("include")
    subprocess.run([*cc, include, "-o", "fast.so", "fast.c", *link], check=True)
    with open("fast.so", "rb") as module:
        name = "needs_library/_fast" + sysconfig.get_config_var("EXT_SUFFIX")
        files = {name: module.read()}
    if os.environ.get("LIBRARY") == "lost":
        os.remove("libfarmer.so.1")
    version = "cp%d%d" % sys.version_info[:2]
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return write_wheel(
        wheel_directory, "needs-library", files, "%s-%s-%s" % (version, version, platform)
    )
