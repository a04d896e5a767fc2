"""An ASGI app: for `uvicorn asgi:app`."""

import asyncio
import os

ME = f"pid {os.getpid()} worker {os.environ.get('RINIT_WORKER')}\n".encode()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    headers = [(b"content-length", str(len(ME)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ME})
