"""Calling addresses that users write: nothing private, nothing without bounds."""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_asyncio

from core.outbound import SIZE_LIMIT, Caller, NoAnswer, Refused, Unreached, is_public, signature

Handler = Callable[[str, bytes], Awaitable[bytes]]


class Server:
    """An HTTP server on the loopback that answers as the test says and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.answers: dict[str, bytes] = {}
        self.port = 0
        self.hold = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next((int(h.split(":")[1]) for h in head.splitlines() if h.lower().startswith("content-length")), 0)
        body = await reader.readexactly(length)
        self.requests.append((head, body))
        path = head.split(" ")[1]
        if path == "/never":
            await self.hold.wait()
        writer.write(self.answers.get(path, reply(200, b"{}")))
        await writer.drain()
        writer.close()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status} OK", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    one = Server()
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    yield one
    one.hold.set()
    listening.close()
    await listening.wait_closed()


@pytest_asyncio.fixture(loop_scope="session")
async def caller() -> AsyncIterator[Caller]:
    one = Caller(allow_private=True)
    yield one
    await one.close()


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> list[str]:
    """Let names have these addresses, one list after the other; gives what was asked."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        addresses = names.get(host.split(".", maxsplit=1)[0], [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("127.0.0.1", False),
        ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False),
        ("::", False), ("fe80::1", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False),
        ("2002:a00:1::1", False), ("ff02::1", False), ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False), ("fec0::1", False), ("64:ff9b::5db8:d70e", True),
    ],
)  # fmt: skip
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


async def test_private_addresses_are_refused_in_every_spelling(server: Server) -> None:
    caller = Caller(allow_private=False)
    for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
        with pytest.raises(Refused, match="private network"):
            await caller.call("GET", f"http://{host}:{server.port}/", {}, None, 5)
    assert server.requests == []
    await caller.close()


async def test_a_name_with_one_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, mixed=["93.184.215.14", "10.0.0.1"])
    caller = Caller(allow_private=False)
    with pytest.raises(Refused, match="private network"):
        await caller.call("GET", f"http://mixed.example:{server.port}/", {}, None, 5)
    await caller.close()


async def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, rebinding=["127.0.0.1"])
    await caller.call("GET", f"http://rebinding.example:{server.port}/x", {}, None, 5)
    assert asked.count("rebinding.example") == 1  # nobody resolves the name a second time
    assert f"\r\nhost: rebinding.example:{server.port}\r\n" in server.requests[0][0].lower()


async def test_a_redirect_into_a_private_network_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, outside=["127.0.0.1"], inside=["10.0.0.1"])
    monkeypatch.setattr("core.outbound.is_public", lambda address: str(address) == "127.0.0.1")
    server.answers["/"] = reply(302, location="http://inside.example/secret")
    caller = Caller(allow_private=False)
    with pytest.raises(Refused, match=r"inside\.example is in a private network"):
        await caller.call("GET", f"http://outside.example:{server.port}/", {}, None, 5)
    await caller.close()


async def test_redirects_keep_or_drop_the_body_and_secrets_stay_with_their_host(server: Server, caller: Caller) -> None:
    base = f"http://127.0.0.1:{server.port}"
    server.answers["/a"] = reply(307, location="/b")
    server.answers["/b"] = reply(303, location=f"http://localhost:{server.port}/c")
    server.answers["/c"] = reply(200, b"[1]")
    answer = await caller.call("POST", f"{base}/a", {"authorization": "secret"}, b"body", 5)
    assert (answer.status, answer.body) == (200, b"[1]")
    lines = [(head.split(" ")[0], body, "secret" in head) for head, body in server.requests]
    assert lines == [("POST", b"body", True), ("POST", b"body", True), ("GET", b"", False)]
    server.requests.clear()
    server.answers["/d"] = reply(308, location=f"http://localhost:{server.port}/c")
    given = {"X-Token": "secret", "Content-Type": "application/json", "Kaskad-Signature": "t=1,v1=x"}
    await caller.call("POST", f"{base}/d", given, b"{}", 5)
    [_, (head, body)] = server.requests
    assert (body, "secret" in head) == (b"{}", False)
    assert "content-type: application/json\r\nkaskad-signature: t=1,v1=x\r\n" in head
    server.answers["/loop"] = reply(302, location="/loop")
    with pytest.raises(Refused, match="more than 3 redirects"):
        await caller.call("GET", f"{base}/loop", {}, None, 5)


async def test_size_and_time_are_bounded(server: Server, caller: Caller) -> None:
    base = f"http://127.0.0.1:{server.port}"
    server.answers["/big"] = reply(200, b"x" * (SIZE_LIMIT + 1))
    with pytest.raises(Refused, match="more than 1000000 bytes"):
        await caller.call("GET", f"{base}/big", {}, None, 5)
    with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
        await caller.call("GET", f"{base}/never", {}, None, 0.2)
    with pytest.raises(NoAnswer):
        await caller.call("GET", "http://127.0.0.1:1/", {}, None, 5)
    for url in ("ftp://example.com/", "http://user:pw@example.com/", "http:///x", "http://example.com:99999/"):
        with pytest.raises(Refused):
            await caller.call("GET", url, {}, None, 5)


@contextmanager
def deaf() -> Iterator[int]:
    """A port at which a connection is neither taken nor refused: its queue is full."""
    with ExitStack() as open_ones:
        listening = open_ones.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            one = open_ones.enter_context(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(listening.getsockname())
        yield listening.getsockname()[1]


async def test_it_is_told_whether_anything_can_have_left(server: Server, caller: Caller) -> None:
    server.answers["/away"] = reply(302, location="http://127.0.0.1:1/")
    server.answers["/odd"] = reply(302, location="http://[")
    base = f"http://127.0.0.1:{server.port}"
    with deaf() as port:
        for nowhere in (f"http://127.0.0.1:{port}/", "http://127.0.0.1:1/"):
            with pytest.raises(Unreached):
                await caller.call("POST", nowhere, {}, b"{}", 0.3)
        server.answers["/deaf"] = reply(302, location=f"http://127.0.0.1:{port}/")
        for taken in ("/never", "/away", "/deaf"):
            with pytest.raises(NoAnswer) as told:
                await caller.call("POST", f"{base}{taken}", {}, b"{}", 0.3)
            assert not isinstance(told.value, Unreached)


@pytest.mark.parametrize(
    "address", ["http://[", "http://[::1", "http://a..example/", f"http://{'a' * 64}.example/", "http://.example/",
                "http://a:99999/", "http://a:x/", "//[x]/", "http://bücher..example/"],
)  # fmt: skip
async def test_what_is_no_address_is_refused_wherever_it_comes_from(
    server: Server, caller: Caller, address: str
) -> None:
    with pytest.raises(Refused):
        await caller.call("POST", address, {}, b"{}", 5)
    server.answers["/"] = reply(302, location=address)
    with pytest.raises(Refused):
        await caller.call("POST", f"http://127.0.0.1:{server.port}/", {}, b"{}", 5)


async def test_the_next_address_is_tried(server: Server, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, several=["127.0.0.9", "127.0.0.1"])  # nobody listens at the first one
    answer = await caller.call("GET", f"http://several.example:{server.port}/", {}, None, 5)
    assert answer.status == 200


def test_a_signature_is_what_the_documentation_says() -> None:
    made = signature(b"key", b'{"a":1}', 1_700_000_000.7)
    digest = hmac.new(b"key", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert made == f"t=1700000000,v1={digest}"
