"""A small HTTP server that opens its port itself. With rinit its workers share the port; how a worker stops is its own
business, and at SIGTERM this one answers what it has. Under Docker: see the Dockerfile beside it. From a checkout:

    cargo run --release -- -i 2 -- python3 examples/python/app.py
"""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "8080"))
ME = f"worker {os.environ.get('RINIT_WORKER', '0')}, process {os.getpid()}"

stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # So many seconds a connection is kept for its next request; less than RINIT_STOP_TIMEOUT.
    timeout = 5
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/":
            self.answer(200, f"{ME}\n")
        elif self.path == "/slow":
            time.sleep(0.3)
            self.answer(200, f"{ME}, after 300 ms\n")
        elif self.path == "/healthz":
            self.answer(200, "ok\n")
        else:
            self.answer(404, "nothing here\n")

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        if stopping.is_set():
            # A client that keeps its connection is told to come again on a new one, which another worker takes.
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # So many connections may wait; Python's own number is 5.
    request_queue_size = 128
    # server_close() waits for the answers that are under way.
    daemon_threads = False


def main():
    server = Server(("", PORT), Handler)
    # Two workers may be woken for one connection: who comes second must not wait for the next.
    server.socket.setblocking(False)

    def stop():
        stopping.wait()
        server.shutdown()

    # A thread that is there already: shutdown() waits for the loop that the handler interrupts, and a handler that starts a
    # thread while the loop starts one waits for ever.
    threading.Thread(target=stop, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    print(f"{ME}, listens on http://localhost:{PORT}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print(f"{ME}, has answered what it had", flush=True)


if __name__ == "__main__":
    main()
