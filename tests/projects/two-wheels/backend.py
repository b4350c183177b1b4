import os


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for tag in ("py2", "py3"):
        with open(os.path.join(wheel_directory, "two_wheels-1.0-%s-none-any.whl" % tag), "wb"):
            pass
    return "two_wheels-1.0-py3-none-any.whl"
