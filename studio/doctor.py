"""`kaskad doctor`: looks at every part of an installation and says how to mend what is broken."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy import text

from channels import providers
from channels.email import inbound
from core import migrate, running, temporal
from core.clock import now
from core.database import Database
from core.errors import KaskadError
from core.schema import partitions
from core.settings import Settings
from studio.stack.process import is_alive

_SPACE_NEEDED = 1 << 30
_SPACE_WISHED = 5 << 30
_CLOCK_TOLERANCE_SECONDS = 5.0


class Verdict(StrEnum):
    """How a part is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """What was found about one part, and what to do."""

    part: str
    verdict: Verdict
    found: str
    mend: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the installation cannot do its work because of it."""
        return self.verdict is Verdict.BROKEN

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything. Nothing is changed, and no error escapes: what does not answer is a finding."""
    return [
        *_data_folder(settings),
        *_secret_key(settings),
        *await _database(settings),
        *await _temporal(settings),
        *_roles(settings),
        *_addresses(settings),
        *await _mailbox(settings),
    ]


def table(findings: Sequence[Finding]) -> Table:
    """The findings for a terminal."""
    colour = {Verdict.GOOD: "green", Verdict.DOUBTFUL: "yellow", Verdict.BROKEN: "bold red"}
    result = Table(*(Column(title, overflow="fold") for title in ("part", "", "found", "what to do")))
    for one in findings:
        result.add_row(one.part, f"[{colour[one.verdict]}]{one.verdict}[/]", escape(one.found), escape(one.mend))
    return result


def _data_folder(settings: Settings) -> Iterator[Finding]:
    data = settings.data.absolute()
    if not data.is_dir() and settings.database and settings.temporal:
        yield Finding(
            "data folder", Verdict.GOOD, f"{data} does not exist, nor is it needed: the servers are elsewhere"
        )
        return
    if not data.is_dir():
        yield Finding("data folder", Verdict.BROKEN, f"{data} does not exist", "start Kaskad once with `kaskad up`")
        return
    if not os.access(data, os.W_OK | os.X_OK):
        mend = "run as the user who owns it, or choose another with --data"
        yield Finding("data folder", Verdict.BROKEN, f"{data} cannot be written", mend)
    else:
        yield Finding("data folder", Verdict.GOOD, str(data))
    yield space(shutil.disk_usage(data).free)


def _secret_key(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key is None and settings.database and not _is_embedded(settings):
        words = f"none is set, so that this machine has its own in {settings.data.absolute() / 'secret.key'}"
        mend = (
            "if roles run on several machines, set the same KASKAD_SECRET_KEY on each: links and passwords depend on it"
        )
        yield Finding("secret key", Verdict.DOUBTFUL, words, mend)


def _is_embedded(settings: Settings) -> bool:
    """Whether the database is that of `kaskad up` over this data folder."""
    there = running.read(settings.data)
    return there is not None and there.database == settings.database


def space(free: int) -> Finding:
    """What so many free bytes mean."""
    words = f"{free / (1 << 30):.1f} GB free"
    if free < _SPACE_NEEDED:
        return Finding("disk", Verdict.BROKEN, words, "free some space: databases stop when the disk is full")
    if free < _SPACE_WISHED:
        return Finding("disk", Verdict.DOUBTFUL, words, "free some space soon")
    return Finding("disk", Verdict.GOOD, words)


async def _database(settings: Settings) -> list[Finding]:
    if settings.database is None:
        mend = "start Kaskad with `kaskad up`, or set KASKAD_DATABASE"
        return [Finding("database", Verdict.BROKEN, "the embedded PostgreSQL is not running", mend)]
    database = Database(settings.database, pool=1)
    try:
        async with asyncio.timeout(20):
            found = [await _server(database), await _clock(database), await _schema(database)]
            if not any(one.is_broken for one in found):
                found += [await _partitions(database), *await _providers(database, settings)]
            return found
    except (KaskadError, TimeoutError) as error:
        words = " ".join(str(error).split()) or "no answer"
        embedded = "see logs/postgres.log in the data folder"
        mend = embedded if _is_embedded(settings) else database_mend(words)
        return [Finding("database", Verdict.BROKEN, words, mend)]
    finally:
        await database.close()


_DATABASE_MENDS = {
    "password authentication failed": "put the right user and password into KASKAD_DATABASE, / : @ % # ? as %XX",
    "certificate verify failed": "name the PEM file of the server's authority: …?sslmode=verify-full&sslrootcert=FILE",
    "root certificate file": "name the PEM file of the server's authority: …?sslmode=verify-full&sslrootcert=FILE",
    "does not match host name": "name the host in KASKAD_DATABASE as the server's certificate does",
    "no encryption": "the server asks for TLS: end KASKAD_DATABASE with ?sslmode=verify-full&sslrootcert=FILE",
    "no pg_hba.conf entry": "let this machine, user and database in, in the server's pg_hba.conf",
    "does not support SSL": "turn TLS on at the server (ssl = on), or do without: ?sslmode=disable",
    "does not exist": "create it: create role … login password '…'; create database … owner … encoding 'UTF8'",
    "too many connections": "raise max_connections at the server, or lower KASKAD_DATABASE_POOL",
}


def database_mend(words: str) -> str:
    """What to do about PostgreSQL's words when it does not let us in."""
    for part, mend in _DATABASE_MENDS.items():
        if part in words:
            return mend
    return "check host and port in KASKAD_DATABASE, whether the server runs, and the network between"


async def _server(database: Database) -> Finding:
    async with database.begin() as connection:
        number, name = (
            await connection.execute(
                text("select current_setting('server_version_num')::int, current_setting('server_version')")
            )
        ).one()
    if number < migrate.OLDEST_SERVER:
        return Finding("database", Verdict.BROKEN, f"PostgreSQL {name}", "upgrade it to 15 or newer")
    return Finding("database", Verdict.GOOD, f"PostgreSQL {name}")


async def _schema(database: Database) -> Finding:
    if await migrate.is_current(database):
        return Finding("schema", Verdict.GOOD, f"version {migrate.newest()}")
    return Finding("schema", Verdict.BROKEN, "not this version's", "run `kaskad migrate`")


async def _partitions(database: Database) -> Finding:
    needed = partitions.next_month(now())
    async with database.begin() as connection:
        missing = [
            table for table in partitions.PARTITIONED if needed not in await partitions.months(connection, table)
        ]
    if missing:
        mend = "run `kaskad migrate`, and see that a router runs: it makes them ahead of time"
        return Finding("partitions", Verdict.BROKEN, f"none for {needed:%B %Y} in {', '.join(missing)}", mend)
    return Finding("partitions", Verdict.GOOD, f"ready for {needed:%B %Y}")


async def _clock(database: Database) -> Finding:
    async with database.begin() as connection:
        theirs: datetime = (await connection.execute(text("select clock_timestamp()"))).scalar_one()
    return clock(abs((now() - theirs).total_seconds()))


def clock(seconds: float) -> Finding:
    """What such a difference between this machine's clock and the database's means."""
    words = f"{seconds:.1f} s apart from the database's"
    if seconds > _CLOCK_TOLERANCE_SECONDS:
        mend = "synchronise the clocks (NTP) of this machine and the database server: waits would end at wrong times"
        return Finding("clock", Verdict.BROKEN, words, mend)
    return Finding("clock", Verdict.GOOD, words)


async def _temporal(settings: Settings) -> list[Finding]:
    if settings.temporal is None:
        mend = "start Kaskad with `kaskad up`, or set KASKAD_TEMPORAL"
        return [Finding("Temporal", Verdict.BROKEN, "the embedded server is not running", mend)]
    try:
        await temporal.connect(settings, patience=5)
    except KaskadError as error:
        there = running.read(settings.data)
        embedded = there is not None and there.temporal == settings.temporal
        mend = "see logs/temporal.log in the data folder" if embedded else ""
        return [Finding("Temporal", Verdict.BROKEN, str(error), mend)]
    words = f"{settings.temporal}, namespace {settings.temporal_namespace}"
    return [Finding("Temporal", Verdict.GOOD, words)]


def _roles(settings: Settings) -> Iterator[Finding]:
    there = running.read(settings.data)
    if there is None:
        words = "no `kaskad up` runs over this data folder"
        yield Finding("roles", Verdict.DOUBTFUL, words, "fine if api, worker and router run apart; else `kaskad up`")
        return
    for name in ("api", "worker", "router"):
        pid = there.parts.get(name)
        if pid is None or not is_alive(pid):
            yield Finding(name, Verdict.BROKEN, "not running", f"see {settings.data / 'logs' / name}.log")
        else:
            yield Finding(name, Verdict.GOOD, f"pid {pid}")


def _addresses(settings: Settings) -> Iterator[Finding]:
    local = any(name in settings.public_url for name in ("//127.", "//localhost", "//0.0.0.0", "//[::"))
    if local and not settings.demo:
        mend = "set KASKAD_BASE_URL to the address people outside reach: links in letters lead there"
        yield Finding("public address", Verdict.DOUBTFUL, settings.public_url, mend)
    else:
        yield Finding("public address", Verdict.GOOD, settings.public_url)


async def _mailbox(settings: Settings) -> list[Finding]:
    """Sign in to the mailbox that bounces and replies come to, where there is one."""
    if settings.inbound_mailbox is None:
        return []
    try:
        url = inbound.MailboxUrl.of(settings.inbound_mailbox.get_secret_value())
        await asyncio.to_thread(inbound.check, url)
    except KaskadError as error:
        return [Finding("mailbox", Verdict.BROKEN, str(error), "mend KASKAD_INBOUND_MAILBOX, or the mailbox")]
    return [Finding("mailbox", Verdict.GOOD, str(url))]


async def _providers(database: Database, settings: Settings) -> list[Finding]:
    """Let every active provider connect and log in."""
    async with database.begin() as connection:
        found = [one for one in await providers.listing(connection, settings) if one.state == "active"]
    if not found:
        mend = "kaskad provider add main smtp+starttls://user:password@host:587, or set KASKAD_EMAIL"
        return [Finding("providers", Verdict.DOUBTFUL, "none, so no letter can leave", mend)]
    return [await _provider(one, settings) for one in found]


async def _provider(one: providers.Provider, settings: Settings) -> Finding:
    name = f"provider {one.name}"
    try:
        opened = one.scheme.open(one.url, settings)
        try:
            async with asyncio.timeout(15):
                await opened.check()
        finally:
            await opened.close()
    except TimeoutError:
        return Finding(name, Verdict.BROKEN, f"{one.shown} did not answer within 15 s", "check host and port")
    except KaskadError as error:
        return Finding(name, Verdict.BROKEN, str(error), "mend its URL, or see why the server refuses us")
    return Finding(name, Verdict.GOOD, one.shown)
