"""A socket in the simplest use: runs the code of its first argument, which finds `s`, a socket that is bound to $PORT, and
`answer`, which serves a connection with the number of the worker (its process group). A second argument is the number of a socket that is bound already."""

import os
import select
import signal
import socket
import struct
import sys
import threading
import time

address = ("127.0.0.1", int(os.environ["PORT"]))


def answer(c):
    c.recv(4096)
    body = f"pid {os.getpgrp()}\n"
    c.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    c.close()


if len(sys.argv) == 3:
    s = socket.socket(fileno=int(sys.argv[2]))
else:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(address)
assert s.getsockname() == address, s.getsockname()
exec(sys.argv[1])
