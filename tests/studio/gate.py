"""A door before Temporal's dev server, which has neither TLS nor keys: `python -m tests.studio.gate`.

It is a gRPC server of its own: it ends TLS, asks for a client certificate and for an API key as Temporal Cloud does
(`authorization: Bearer …` on every call), and passes each call on as it is. It prints its port once it listens.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc

KEY_VARIABLE = "GATE_API_KEY"
_SIZES = [("grpc.max_receive_message_length", 128 << 20), ("grpc.max_send_message_length", 128 << 20)]
_OF_THE_HOP = {"user-agent", "te", "content-type"}
Method = Callable[[bytes, Any], Awaitable[bytes]]


class Gate(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method of every service, answered by the server behind."""

    def __init__(self, behind: grpc.aio.Channel, key: str | None) -> None:
        self._behind = behind
        self._key = key

    def service(self, handler_call_details: Any) -> Any:
        """What answers a method; Temporal's are all one request, one answer."""
        method: Method = partial(self._pass_on, handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(method)

    async def _pass_on(self, method: str, request: bytes, context: Any) -> bytes:
        given = list(context.invocation_metadata())
        if self._key is not None:
            shown = dict(given).get("authorization")
            if shown is None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Jwt is missing")
            if shown != f"Bearer {self._key}":
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "Request unauthorized.")
        metadata = [(name, value) for name, value in given if name not in _OF_THE_HOP and not name.startswith("grpc-")]
        call = self._behind.unary_unary(method)
        try:
            answer: bytes = await call(request, metadata=metadata, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            trailing = tuple((one[0], one[1]) for one in error.trailing_metadata())
            await context.abort(error.code(), error.details() or "", trailing)
            raise
        return answer


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("behind", help="host:port of the server to pass calls on to")
    parser.add_argument("folder", type=Path, help="with server.pem, server.key and ca.pem")
    parser.add_argument("--client-certificates", action="store_true", help="let in who shows one of ca.pem")
    given = parser.parse_args()
    pair = ((given.folder / "server.key").read_bytes(), (given.folder / "server.pem").read_bytes())
    ca = (given.folder / "ca.pem").read_bytes() if given.client_certificates else None
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with grpc.aio.insecure_channel(given.behind, options=_SIZES) as behind:
        server = grpc.aio.server(options=_SIZES)
        server.add_generic_rpc_handlers((Gate(behind, os.environ.get(KEY_VARIABLE)),))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], ca, ca is not None))
        await server.start()
        print(port, flush=True)
        await stop.wait()
        await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(_main())
