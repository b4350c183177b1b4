import socket

from wheel_writer import write_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    try:
        socket.create_connection(("192.0.2.1", 9), timeout=5).close()
    except OSError as error:
        print("network:", error.errno)
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname()).close()
            print("loopback: there")
    except OSError as error:
        print("loopback:", error)
    return write_wheel(wheel_directory, "network")
