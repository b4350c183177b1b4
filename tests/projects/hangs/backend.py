import time


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("waiting for Godot", flush=True)
    while True:
        time.sleep(60)
