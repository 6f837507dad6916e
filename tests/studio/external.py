"""Servers that belong to somebody else: PostgreSQL and Temporal with passwords, keys and TLS of a private authority."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from studio.stack import process
from studio.stack.process import Account
from studio.stack.scratch import FORGETFUL
from tests.peers import missing_peer
from tests.studio.gate import KEY_VARIABLE

ROOT = Path(__file__).parents[2]
PASSWORD = "correct-horse-battery"


class Authority:
    """A certificate authority; its certificate is `ca.pem` of its folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        self.folder = folder
        self.file = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, hosts: tuple[str, ...] = ("localhost",)) -> tuple[Path, Path]:
        """Make `name.pem` and `name.key`, good for these hosts and 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = [*(x509.DNSName(one) for one in hosts), x509.IPAddress(ip_address("127.0.0.1"))]
        made = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        pair = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pair[0].write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pair[1].chmod(0o600)
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        at = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1))
            .not_valid_after(at + timedelta(days=1))
        )


def open_folder() -> Path:
    """A folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="kaskad-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def debian_postgres(authority: Authority) -> AsyncIterator[str]:
    """Debian's PostgreSQL, which lets in only who comes by TLS and has the password; gives its URL without options."""
    programs = _debian_programs()
    account = Account.named("nobody") if os.geteuid() == 0 else None
    folder = open_folder()
    try:
        cluster, password, key, certificate = (folder / name for name in ("cluster", "password", "key", "certificate"))
        cluster.mkdir(mode=0o700)
        password.write_text(PASSWORD)
        for issued, copy in zip(authority.issue("postgres"), (certificate, key), strict=True):
            shutil.copy(issued, copy)
        for one in (cluster, password, key):
            one.chmod(0o700 if one is cluster else 0o600)
            if account is not None:
                os.chown(one, account.uid, account.gid)
        words = ["-U", "kaskad", f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]
        await _finish([programs / "initdb", "-D", cluster, *words], folder, account)
        (cluster / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        port = process.free_port()
        options = {**FORGETFUL, "port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options |= {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        server = await process.spawn(
            [programs / "postgres", "-D", cluster, *words], folder / "log", account=account, directory=folder
        )
        url = f"postgresql://kaskad:{PASSWORD}@localhost:{port}/"
        try:
            await _make_database(url)
            yield f"{url}kaskad"
        finally:
            await process.stop(server, signal.SIGINT)
    finally:
        shutil.rmtree(folder)


async def _finish(command: list[str | Path], folder: Path, account: Account | None) -> None:
    done = await process.spawn(command, folder / "log", account=account, directory=folder)
    assert await done.wait() == 0, (folder / "log").read_text()


async def _make_database(url: str) -> None:
    for _ in range(600):
        try:
            async with await psycopg.AsyncConnection.connect(
                f"{url}postgres?sslmode=require", autocommit=True
            ) as connection:
                await connection.execute("create database kaskad encoding 'UTF8' template template0")
                return
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)
    raise AssertionError("Debian's PostgreSQL did not come up")


def _debian_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing_peer("needs PostgreSQL from the Debian package postgresql (apt-get install postgresql)")
    return found[0].parent  # the oldest: ours is the newest


@contextmanager
def temporal_gate(behind: str, authority: Authority, key: str | None, *, mutual: bool) -> Iterator[str]:
    """TLS, and where wanted an API key and client certificates, before a Temporal server; gives its address."""
    authority.issue("server")
    gate = subprocess.Popen(
        [sys.executable, "-m", "tests.studio.gate", behind, str(authority.folder)]
        + (["--client-certificates"] if mutual else []),
        cwd=ROOT,
        env={**os.environ, **({KEY_VARIABLE: key} if key else {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert gate.stdout is not None
        yield f"localhost:{int(gate.stdout.readline())}"
    finally:
        gate.terminate()
        gate.communicate(timeout=30)
