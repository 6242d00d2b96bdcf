"""A program that sends a media file over HTTP as a live stream, from its beginning to everybody.

`python -m tests.pipeline.stream_server FILE PORT SECONDS` takes so many seconds for the file, then
says nothing more and keeps the connection. It is ended by a kill, as real ones are.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE_BYTES = 1_880  # ten packets of MPEG-TS


class Sender(BaseHTTPRequestHandler):
    data = b""
    seconds = 0.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        begin = time.monotonic()
        for at in range(0, len(self.data), PIECE_BYTES):
            time.sleep(max(0.0, begin + at / len(self.data) * self.seconds - time.monotonic()))
            self.wfile.write(self.data[at : at + PIECE_BYTES])
        time.sleep(3_600)

    def log_message(self, *args) -> None:
        pass


if __name__ == "__main__":
    Sender.data, Sender.seconds = Path(sys.argv[1]).read_bytes(), float(sys.argv[3])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Sender).serve_forever()
