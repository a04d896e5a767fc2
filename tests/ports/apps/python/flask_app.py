"""A Flask app: for `gunicorn flask_app:app`, and as a program of its own."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"pid {os.getpid()} worker {os.environ.get('RINIT_WORKER')}\n"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
