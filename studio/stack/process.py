"""Child processes of the stack: started with their log, never outliving us, stopped with patience."""

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 20_000_000
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Account:
    """The system user that a child runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> "Account":
        """The account with this name; KeyError if the machine has none."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def owning(cls, path: Path) -> "Account":
        """The account that owns a file; KeyError if its number has no name."""
        entry = pwd.getpwuid(path.stat().st_uid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)


def free_port(preferred: int = 0) -> int:
    """A TCP port of the loopback interface that nobody listens on: the preferred one if it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("this machine has no free port on 127.0.0.1")


def why_not_listen(host: str, port: int) -> str | None:
    """Why a server could not listen there, in the system's words; None if it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def reachable(host: str) -> str:
    """Where somebody on this machine finds a server that listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def command_line(pid: int) -> list[str]:
    """The arguments that a process was started with; empty if it is gone or the system does not say."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty if it is gone or the system does not say."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return {name: value for name, _, value in (line.partition("=") for line in lines)}
    return {}


def open_log(path: Path) -> int:
    """Open a log for appending (mode 0600); one that has grown past 20 MB is put aside as `.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


def _die_with_parent(parent: int, with_signal: int) -> Callable[[], None]:
    """What the child runs before its program: ask Linux for a signal when the parent dies, however it dies.

    It must come after the change of user, which clears the request; subprocess calls it in that order.
    """

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, with_signal)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


async def spawn(
    arguments: Sequence[str | Path],
    log: Path,
    *,
    account: Account | None = None,
    death_signal: int = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own (so that Ctrl-C reaches only us) with its output in `log`.

    Call it from the main thread: Linux sends `death_signal` when the thread that forked ends.
    """
    output = open_log(log)
    options = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return await asyncio.create_subprocess_exec(
            *map(str, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            cwd=directory,
            start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid(), death_signal),
            **options,  # type: ignore[arg-type]
        )
    finally:
        os.close(output)


async def stop(process: asyncio.subprocess.Process, gently: int = signal.SIGTERM, patience: float = 20) -> int:
    """Ask a child to end, and end it if it has not after `patience` seconds; returns its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(gently)
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return await process.wait()


async def stop_pid(pid: int, gently: int = signal.SIGTERM, patience: float = 20) -> None:
    """Like `stop`, for a leftover that is not our child."""
    for attempt in (gently, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, attempt)
        if await _is_gone(pid, patience):
            return


async def _is_gone(pid: int, patience: float) -> bool:
    """Look again and again, since a stranger's end sends us nothing."""
    for _ in range(int(patience / 0.05)):
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.05)
    return False


def tail(log: Path) -> str:
    """The last words of a log, for an error message."""
    lines = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
    return f"the end of {log} says: " + " / ".join(lines) if lines else f"see {log}"
