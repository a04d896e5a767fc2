"""A small HTTP server, as rinit's workers. Under Docker: see the Dockerfile beside it. From a checkout:

    cargo run --release -- -i 2 -- python3 examples/python/app.py
"""

import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKER = int(os.environ.get("RINIT_WORKER", "0"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            self.answer(200, f"worker {WORKER}, process {os.getpid()}\n")
        elif self.path == "/slow":
            time.sleep(0.3)
            self.answer(200, f"worker {WORKER}, process {os.getpid()}, after 300 ms\n")
        elif self.path == "/healthz":
            self.answer(200, "ok\n")
        else:
            self.answer(404, "nothing here\n")

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # server_close() waits for the answers that are under way.
    daemon_threads = False


def main():
    if "LISTEN_FDS" in os.environ:
        # --listen: rinit has opened the socket, and all workers share it.
        server = Server(("", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = socket.socket(fileno=3)
        # Two workers may be woken for one connection: who comes second must not wait for the next.
        server.socket.setblocking(False)
        where = "the socket that rinit keeps"
    else:
        # No socket was handed over: a port each.
        port = int(os.environ.get("PORT", "8080")) + WORKER
        server = Server(("", port), Handler)
        where = f"http://localhost:{port}"

    def stop(*_):
        # From another thread: shutdown() waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print(f"worker {WORKER}, process {os.getpid()}, listens on {where}", flush=True)
    if "READY_FD" in os.environ:
        # --ready fd:N: a newline there says that this worker serves.
        os.write(int(os.environ["READY_FD"]), b"\n")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print(f"worker {WORKER}, process {os.getpid()}, has answered what it had", flush=True)


if __name__ == "__main__":
    main()
