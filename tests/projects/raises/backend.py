def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    raise RuntimeError("the moon is in the wrong house")
