"""A small WSGI app, for a server that takes its socket from rinit (LISTEN_FDS). For Docker see the Dockerfile. From a
checkout, where gunicorn is installed:

    cargo run --release -- -i 2 --listen 8080 -- gunicorn --chdir examples/sockets app:app
"""

import os
import time

ME = f"worker {os.environ.get('RINIT_WORKER', '0')}, process {os.getpid()}"


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        status, text = "200 OK", f"{ME}\n"
    elif path == "/slow":
        time.sleep(0.3)
        status, text = "200 OK", f"{ME}, after 300 ms\n"
    elif path == "/healthz":
        status, text = "200 OK", "ok\n"
    else:
        status, text = "404 Not Found", "nothing here\n"
    body = text.encode()
    start_response(status, [("content-type", "text/plain"), ("content-length", str(len(body)))])
    return [body]


print(f"{ME}, is loaded", flush=True)
