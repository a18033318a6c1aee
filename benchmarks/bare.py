"""The upper limit: a bare ASGI function on the same uvicorn, which reads and writes JSON."""

import json

from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the request."""
    query = json.loads((await receive())["body"])
    body = json.dumps({"est_hours_to_dispatch": 5.321, "model_version": query["product_code"]}).encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
