"""A server with a stop of its own: at SIGTERM it takes no new connections, answers what it has, tells those who keep
their connection to go, and ends."""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ME = f"pid {os.getpid()} worker {os.environ.get('RINIT_WORKER')}\n".encode()
stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # for the next request on a kept connection
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(ME)))
        if stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(ME)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the answers that are under way


def stop():
    stopping.wait()
    server.shutdown()


# A thread that is there already: shutdown() waits for the loop that the handler interrupts, and a handler that starts a
# thread while the loop starts one waits for ever.
threading.Thread(target=stop, daemon=True).start()
server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
if os.environ.get("NONBLOCKING"):
    server.socket.setblocking(False)
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
server.serve_forever(poll_interval=0.1)
server.server_close()
