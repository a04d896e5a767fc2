"""A small HTTP server that opens its port itself. With rinit its workers share the port. At SIGTERM it
answers the requests that it has, and exits. For Docker see the Dockerfile. From a checkout:

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
    # The time in seconds that a connection is kept open for its next request; less than RINIT_STOP_TIMEOUT.
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
            # The client's next request then comes on a new connection, which another worker accepts.
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # The maximum number of connections that wait to be accepted; Python's default is 5.
    request_queue_size = 128
    # server_close() waits for the requests in progress.
    daemon_threads = False


def main():
    server = Server(("", PORT), Handler)
    # Two workers may wake up for one connection: the one that does not get it must not block until the next.
    server.socket.setblocking(False)

    def stop():
        stopping.wait()
        server.shutdown()

    # A thread that runs already: shutdown() waits for the loop, which the signal handler interrupts, and a handler that
    # starts a thread while the loop starts one would deadlock.
    threading.Thread(target=stop, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    print(f"{ME}, listens on http://localhost:{PORT}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print(f"{ME}, has answered what it had", flush=True)


if __name__ == "__main__":
    main()
