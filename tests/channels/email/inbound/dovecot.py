"""Dovecot, from its Debian package, as somebody else's IMAP and POP3 server with one user."""

import asyncio
import grp
import itertools
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.channels.email.servers import certificate
from tests.peers import needs_peer

_CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail
first_valid_uid = 1
default_internal_user = {user}
default_login_user = {user}
default_internal_group = {group}
mail_uid = {user}
mail_gid = {group}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop}
  }}
  inet_listener pop3s {{
    port = {pops}
  }}
}}
service anvil {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  separator = .
}}
"""
_numbers = itertools.count(1)


@dataclass
class Dovecot:
    """A running server."""

    imap: str
    pop: str
    secure: dict[str, str]
    """URLs of each way of encryption; `ca=` is to be added."""
    ca: Path
    mail: Path
    owner: tuple[int, int]

    def put(self, folder: str, source: str) -> None:
        """Lay a letter into a folder, as a mail server delivers it."""
        into = self._folder(folder) / "new"
        file = into / f"{next(_numbers)}.test"
        file.write_bytes(source.replace("\n", "\r\n").encode())
        os.chown(file, *self.owner)

    def count(self, folder: str) -> int:
        """How many letters are in a folder."""
        return sum(len(list((self._folder(folder) / part).iterdir())) for part in ("new", "cur"))

    def _folder(self, name: str) -> Path:
        return self.mail if name == "INBOX" else self.mail / f".{name}"


@asynccontextmanager
async def dovecot() -> AsyncIterator[Dovecot]:
    """Run the server while the block lasts."""
    program = needs_peer("dovecot", "dovecot-imapd")
    needs_peer("/usr/lib/dovecot/pop3", "dovecot-pop3d")
    made, ports = _prepared()
    folder = made.mail.parent
    server = await asyncio.create_subprocess_exec(
        program, "-F", "-c", str(folder / "dovecot.conf"), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await _answering(server, ports)
        yield made
    except _Silent as error:
        raise AssertionError(f"dovecot does not answer: {_log(folder)}") from error
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()
        shutil.rmtree(folder, ignore_errors=True)


class _Silent(Exception):
    pass


def _log(folder: Path) -> str:
    file = folder / "log"
    return file.read_text() if file.exists() else ""


def _prepared() -> tuple[Dovecot, list[int]]:
    """Folders and settings. Its sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="dove-"))
    who = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
    group = "nogroup" if os.geteuid() == 0 else grp.getgrgid(who.pw_gid).gr_name
    ports = _free_ports(4)
    imap, pop, imaps, pops = ports
    for name in ("run", "state", *[f"mail{box}/{part}" for box in ("", "/.Done") for part in ("new", "cur", "tmp")]):
        (folder / name).mkdir(parents=True)
    _, ca = certificate(folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, who.pw_uid, who.pw_gid)
    config = folder / "dovecot.conf"
    config.write_text(
        _CONFIG.format(folder=folder, user=who.pw_name, group=group, imap=imap, pop=pop, imaps=imaps, pops=pops),
        encoding="utf-8",
    )
    secure = {"imaps": imaps, "imap+starttls": imap, "pop3s": pops, "pop3+starttls": pop}
    made = Dovecot(
        f"imap://anna:secret@127.0.0.1:{imap}",
        f"pop3://anna:secret@127.0.0.1:{pop}",
        {scheme: f"{scheme}://anna:secret@localhost:{port}" for scheme, port in secure.items()},
        ca,
        folder / "mail",
        (who.pw_uid, who.pw_gid),
    )
    return made, [imap, pop]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def _answering(server: asyncio.subprocess.Process, ports: list[int]) -> None:
    for port in ports:
        for _ in range(400):
            if server.returncode is not None:
                raise _Silent
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            greeting = await asyncio.wait_for(reader.readline(), 20)
            writer.close()
            await writer.wait_closed()
            assert b"ready" in greeting, greeting
            break
        else:
            raise _Silent


@asynccontextmanager
async def without(command: bytes, url: str) -> AsyncIterator[str]:
    """The same server as one that does not know a command; gives its URL."""
    host, port = "127.0.0.1", urlsplit(url).port

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, port)
        back = asyncio.create_task(_copy(theirs, writer))
        while line := await reader.readline():
            if line.upper().startswith(command):
                writer.write(b"-ERR Unknown command.\r\n")
            else:
                ours.write(line)
        ours.close()
        await back
        writer.close()

    server = await asyncio.start_server(relay, host, 0)
    async with server:
        yield url.replace(f":{port}", f":{server.sockets[0].getsockname()[1]}")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
