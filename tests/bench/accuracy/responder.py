"""A server that answers every HTTP request at once and does nothing else, for round trips by HEAD in the lab.

A round trip by `http` holds the server's own time. To know what the prober adds, that time must be next to nothing: a
thread a connection, which waits in the kernel and answers what came by one constant.
"""

import socket
import sys
import threading
from typing import Final

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_END: Final = b"\r\n\r\n"


def main(host: str, port: int) -> None:
    """Serve until killed."""
    with socket.create_server((host, port)) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        came = b""
        while data := connection.recv(65_536):
            came += data
            if came.endswith(_END):
                connection.sendall(_ANSWER)
                came = b""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
