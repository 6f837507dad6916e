"""An HTTP server that answers as a vendor documents it, or misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

DROP, HANG, HALF, GARBAGE, ENDLESS = "<drop>", "<hang>", "<half>", "<garbage>", "<endless>"


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Said = tuple[int, dict[str, str], Any] | str


@dataclass
class Peer:
    """What the server says: status, headers and JSON (or bytes); or one of the words above."""

    answer: Callable[[Request], Said]
    requests: list[Request] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    method, path, _ = first.split(" ")
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def _talk(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (request := await _read(reader)) is not None:
        peer.requests.append(request)
        peer.at_once += 1
        peer.most_at_once = max(peer.most_at_once, peer.at_once)
        await asyncio.sleep(0)
        said = peer.answer(request)
        peer.at_once -= 1
        match said:
            case "<hang>":
                await asyncio.Event().wait()
            case "<drop>":
                return
            case "<half>":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                await writer.drain()
                return
            case "<garbage>":
                writer.write(b"220 smtp.example.com ESMTP\r\n")
                await writer.drain()
                return
            case "<endless>":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900000)
                await writer.drain()
                return
            case (int(status), headers, content):
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
                writer.write(f"HTTP/1.1 {status} Said\r\n".encode())
                writer.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body)
                await writer.drain()


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[int]:
    """Run the server; gives its port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _talk(peer, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**22)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
