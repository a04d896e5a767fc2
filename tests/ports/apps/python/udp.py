"""A server for datagrams: each answer is the number of its process, and what was asked."""
import os
import selectors
import socket

port = int(os.environ["PORT"])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", port))
server.setblocking(False)
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", port))
    print("bound twice", flush=True)
except OSError as error:
    print(f"the second: {error}", flush=True)
selector = selectors.DefaultSelector()
selector.register(server, selectors.EVENT_READ)
while True:
    selector.select()
    try:
        question, client = server.recvfrom(1000)
    except BlockingIOError:
        continue
    server.sendto(f"pid {os.getpid()} {question.decode()}".encode(), client)
