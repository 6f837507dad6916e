"""What a killed stack left behind: ended before the next one starts."""

from pathlib import Path

import msgspec
import structlog

from core import running
from core.running import Running
from studio.stack import process
from studio.stack.role import ROLES

log = structlog.get_logger("kaskad.stack")


async def end_leftovers(data: Path) -> None:
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
