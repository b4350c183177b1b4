from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return write_wheel(
        wheel_directory,
        "lies",
        {"lies/_fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF" + bytes(60)},
    )
