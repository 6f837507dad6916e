"""The whole embedded stack of one data folder: one at a time, kept alive, stopped in order.

    async with running_stack(settings) as stack:
        ...                # PostgreSQL, Temporal, api, worker and router run; stack.settings has their addresses

Parts that an external server stands in for (KASKAD_DATABASE, KASKAD_TEMPORAL) are not started. A part that dies is
started again, with growing pauses. When this process is killed the parts are told by Linux; what is left nevertheless
is ended by the next start.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from channels import providers
from core import migrate, running, temporal
from core.database import Database
from core.errors import Conflict, KaskadError, Misconfigured
from core.running import Reach, Running
from core.settings import Settings
from studio.stack import process
from studio.stack.accounts import server_account
from studio.stack.postgres import EmbeddedPostgres
from studio.stack.role import ROLES, Role
from studio.stack.temporal import EmbeddedTemporal

_CALM_SECONDS = 60.0
_LONGEST_PAUSE = 10.0
log = structlog.get_logger("kaskad.stack")


class Part(Protocol):
    """A child process of the stack."""

    name: str
    log: Path
    process: asyncio.subprocess.Process | None

    @property
    def pid(self) -> int | None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Stack:
    """The parts that run, and where they are."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        """With the addresses of the database, Temporal and the API filled in."""
        self.parts: list[Part] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where the API and the pages are on this machine."""
        return local_url(self.settings)

    async def add(self, part: Part) -> None:
        """Start a part and keep it alive."""
        self.parts.append(part)  # first, so that stop() finds it if we are interrupted while it starts
        await part.start()
        self._keepers.append(asyncio.create_task(self._keep(part), name=f"keep {part.name}"))
        self.announce()

    async def stop(self) -> None:
        """Stop everything, last started first, but the roles all at once."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        roles = [part for part in self.parts if isinstance(part, Role)]
        await asyncio.gather(*(role.stop() for role in roles))
        for part in reversed(self.parts):
            await part.stop()

    def announce(self) -> None:
        """Write where everything is for other processes of this installation."""
        running.write(
            self.settings.data,
            Running(
                pid=os.getpid(),
                api=self.url,
                database=self.settings.database or "",
                temporal=self.settings.temporal or "",
                reach=Reach.of(self.settings),
                parts={part.name: part.pid for part in self.parts if part.pid},
            ),
        )

    async def _keep(self, part: Part) -> None:
        pause = 0.0
        while True:
            started = time.monotonic()
            if part.process is not None:
                code = await part.process.wait()
                words = process.tail(part.log)
                log.error("a part ended by itself and is started again", part=part.name, exit_code=code, why=words)
            if time.monotonic() - started > _CALM_SECONDS:
                pause = 0.0
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2 or 0.5)
            try:
                await part.start()
            except Exception as error:  # whatever it is, the part has to be tried again
                log.error("a part does not start", part=part.name, error=str(error), exc_info=_unless_known(error))
            else:
                log.info("a part runs again", part=part.name)
                self.announce()


def _unless_known(error: Exception) -> Exception | None:
    """An error that nobody foresaw is logged with its traceback."""
    return None if isinstance(error, KaskadError) else error


@asynccontextmanager
async def running_stack(
    settings: Settings,
    roles: Sequence[str] = ROLES,
    say: Callable[[str], None] = lambda _text: None,
) -> AsyncIterator[Stack]:
    """Run the stack for as long as the block lasts.

    Args:
        settings: as loaded; `port` 0 takes a free one.
        roles: which of api, worker and router to run.
        say: is told, in words, what is being started.

    Raises:
        Conflict: a stack runs over this data folder already.
        Misconfigured: the port is taken, the data folder cannot be used, the disk is full.
        Unavailable: a part does not start, or an external server does not answer.
    """
    settings = settings.model_copy(update={"data": settings.data.absolute()})
    with _only_one(settings):
        await _end_leftovers(settings.data)
        ports = _Ports(settings.data)
        settings = settings.model_copy(update={"port": _api_port(settings, ports)})
        async with AsyncExitStack() as cleanup:
            stack = Stack(settings)
            cleanup.callback(running.forget, settings.data)
            cleanup.push_async_callback(_stop_surely, stack)
            await _start_database(stack, ports, say)
            await _start_temporal(stack, ports, say)
            ports.keep()
            for name in roles:
                say(f"starting the {name}")
                await stack.add(Role(name, _for_role(stack.settings, name), _log(settings, name)))
            stack.announce()
            yield stack
            say("stopping")


async def _stop_surely(stack: Stack) -> None:
    """Stop to the end even when we are being cancelled: half a stop would leave parts behind."""
    stopping = asyncio.ensure_future(stack.stop())
    while not stopping.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(stopping)
    stopping.result()


def local_url(settings: Settings) -> str:
    """http://host:port of the API for somebody on this machine."""
    host = process.reachable(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


async def _start_database(stack: Stack, ports: "_Ports", say: Callable[[str], None]) -> None:
    settings = stack.settings
    if settings.database is None:
        say("starting PostgreSQL")
        account = server_account(settings.data, settings.postgres_user)
        server = EmbeddedPostgres(settings.data, ports.take("postgres"), _log(settings, "postgres"), account=account)
        await stack.add(server)
        stack.settings = settings.model_copy(update={"database": server.url})
    assert stack.settings.database is not None  # noqa: S101 - set above
    say("bringing the database up to date")
    database = Database(stack.settings.database, pool=2)
    try:
        await migrate.migrate(database, settings)
        async with database.begin() as connection:
            await providers.ensure_default(connection, settings)
    finally:
        await database.close()


async def _start_temporal(stack: Stack, ports: "_Ports", say: Callable[[str], None]) -> None:
    settings = stack.settings
    if settings.temporal is not None:
        await temporal.connect(settings)
        return
    say("starting Temporal")
    namespace = settings.temporal_namespace
    server = EmbeddedTemporal(settings.data, ports.take("temporal"), _log(settings, "temporal"), namespace)
    await stack.add(server)
    stack.settings = settings.model_copy(update={**Reach(namespace).settings(), "temporal": server.address})


def _for_role(settings: Settings, name: str) -> Settings:
    """Roles on one machine cannot share a metrics port: the router gets the one after the worker's."""
    if name == "router" and settings.metrics_port:
        return settings.model_copy(update={"metrics_port": settings.metrics_port + 1})
    return settings


def _log(settings: Settings, name: str) -> Path:
    return settings.data / "logs" / f"{name}.log"


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the data folder's lock; the kernel gives it back however we end."""
    with contextlib.ExitStack() as held:
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
            held.enter_context(running.holding(settings.data))
        except Conflict as error:
            raise Conflict(_already(settings.data, str(error))) from None
        except OSError as error:
            raise Misconfigured(
                f"the data folder {settings.data} cannot be used: {error.strerror}; choose another with --data or "
                "KASKAD_DATA"
            ) from error
        yield


def _already(data: Path, holder: str) -> str:
    there = running.read(data)
    where = f", at {there.api}" if there else " (still starting or stopping)"
    return (
        f"Kaskad is already running over {data}: {holder}{where}. Stop it first, or give this one another folder with "
        "--data"
    )


async def _end_leftovers(data: Path) -> None:
    """End roles and servers that a killed stack left behind; we hold the lock, so they belong to nobody."""
    try:
        left = msgspec.json.decode((data / "stack.json").read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return
    for name, pid in sorted(left.parts.items(), key=lambda part: part[0] not in ROLES):
        if _is_ours(data, name, pid):
            log.warning("ending a part that a killed stack left behind", part=name, pid=pid)
            await process.stop_pid(pid)
    running.forget(data)


def _is_ours(data: Path, name: str, pid: int) -> bool:
    """Whether a process is still the part that it was: numbers are given again, also to roles of other folders."""
    words = process.command_line(pid)
    if name in ROLES:
        return "studio.cli" in words and process.environment(pid).get("KASKAD_DATA") == str(data)
    return any(str(data / name) in word for word in words)


class _Ports:
    """Ports of the embedded servers; the same ones again after a restart, where they are still free."""

    def __init__(self, data: Path) -> None:
        self._path = data / "ports.json"
        self._ports: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
            self._ports = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])

    def take(self, name: str) -> int:
        self._ports[name] = process.free_port(self._ports.get(name, 0))
        return self._ports[name]

    def keep(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self._ports))
        new.replace(self._path)


def _api_port(settings: Settings, ports: _Ports) -> int:
    if settings.port == 0:
        return ports.take("api")
    refusal = process.why_not_listen(settings.host, settings.port)
    if refusal:
        raise Misconfigured(
            f"the API cannot listen at {settings.host}:{settings.port}: {refusal}; choose another port with --port or "
            "KASKAD_PORT (0 takes a free one)"
        )
    return settings.port
