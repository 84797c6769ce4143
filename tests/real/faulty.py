"""An upstream that breaks in the middle of its stream: the model's name says how."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Final

CUT: Final = "cut"
"""The connection is reset inside a chunked body."""
ERROR: Final = "error-event"
"""An error object comes as an event, after which the body ends well."""
UNFINISHED: Final = "unfinished"
"""The body ends well, but neither `finish_reason` nor `[DONE]` came."""
FAULTS: Final = (CUT, ERROR, UNFINISHED)
TOKENS: Final = 4
TOKEN_SECONDS: Final = 0.05
"""Slow enough that the tokens before the fault reach the client one by one."""
WORDS: Final = "the model fell over"


@contextmanager
def faulty_upstream() -> Iterator[str]:
    """Serve on loopback; give the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(ConnectionError):
            for _ in range(TOKENS):
                self._event(_token(asked))
                sleep(TOKEN_SECONDS)
            self._break(str(asked["model"]))

    def _break(self, fault: str) -> None:
        if fault == CUT:
            # Lingering for no time makes the close a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if fault == ERROR:
            self._event({"error": {"message": WORDS, "type": "server_error", "code": 500}})
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, payload: object) -> None:
        data = f"data: {json.dumps(payload)}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def _token(asked: dict[str, object]) -> dict[str, object]:
    kind, choice = "chat.completion.chunk", {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
    return {"id": "faulty", "object": kind, "created": 1, "model": asked["model"], "choices": [choice]}
