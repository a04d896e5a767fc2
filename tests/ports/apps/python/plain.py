"""The standard library's server, with nothing added."""

import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

ME = f"pid {os.getpid()} worker {os.environ.get('RINIT_WORKER')}\n".encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(ME)))
        self.end_headers()
        self.wfile.write(ME)


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
