def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return "no_wheel-1.0-py3-none-any.whl"
