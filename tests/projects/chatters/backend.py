import time


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    while True:
        print("still waiting", flush=True)
        time.sleep(0.05)
