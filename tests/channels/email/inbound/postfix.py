"""Postfix, from its Debian package, as somebody else's mail server: it takes letters, or bounces them."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers import missing_peer, needs_peer

_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.far.example
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
virtual_mailbox_domains = far.example
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {{anna@far.example = anna/}}, {{full@far.example = full/}} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_transport = virtual
smtpd_reject_unlisted_recipient = no
transport_maps = inline:{{
 {{in.example.com = smtp:[127.0.0.1]:{inbound}}}, {{full@far.example = error:5.2.2 mailbox full}} }}
smtp_address_preference = ipv4
disable_dns_lookups = yes
alias_maps =
alias_database =
local_recipient_maps =
"""
_MASTER = """
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@asynccontextmanager
async def postfix(inbound: int) -> AsyncIterator[tuple[int, Path]]:
    """Run it while the block lasts; gives its port and the folder of anna@far.example's mail.

    Args:
        inbound: the port on this machine where mail for in.example.com goes.
    """
    program = needs_peer("postfix", "postfix")
    if os.geteuid() != 0:
        missing_peer("only root can run Postfix")
    folder, port = _prepared(inbound)
    server = await asyncio.create_subprocess_exec(
        program,
        "-c",
        str(folder / "etc"),
        "start-fg",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _answering(server, port, folder / "log")
        yield port, folder / "mail" / "anna" / "new"
    finally:
        # The script in the foreground passes no signal on to the master.
        stopping = await asyncio.create_subprocess_exec(
            program, "-c", str(folder / "etc"), "stop", stderr=asyncio.subprocess.DEVNULL
        )
        await stopping.wait()
        await server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _prepared(inbound: int) -> tuple[Path, int]:
    folder = Path(tempfile.mkdtemp(prefix="post-"))
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "nobody", "nogroup")
    owner = (folder / "mail").stat()
    main = _MAIN.format(folder=folder, inbound=inbound, uid=owner.st_uid, gid=owner.st_gid)
    (folder / "etc" / "main.cf").write_text(main)
    (folder / "etc" / "master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{port}"))
    return folder, port


async def _answering(server: asyncio.subprocess.Process, port: int, log: Path) -> None:
    for _ in range(400):
        if server.returncode is not None:
            break
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    said = await asyncio.to_thread(lambda: log.read_text() if log.exists() else "")
    raise AssertionError(f"postfix does not answer: {said}")
