"""Small files with secrets in them: readable by their owner only, and whole or not there at all, whenever one looks."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import Misconfigured


def kept(path: Path, make: Callable[[], bytes], at_least: int) -> bytes:
    """What a file holds; where there is none it is made first. Of many processes that make it at once, one succeeds.

    Args:
        path: the file; folders above it are made.
        make: what a new one holds.
        at_least: bytes that it has to have.

    Raises:
        Misconfigured: it holds less.
        OSError: it can be neither read nor made.
    """
    with suppress(FileNotFoundError):
        return _enough(path, at_least)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link appears with all of its content behind it, and never in the place of another.
    with _beside(path, make()) as new, suppress(FileExistsError):
        os.link(new, path)
    return _enough(path, at_least)


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, if there is one; who reads meanwhile has the old one or the new one."""
    with _beside(path, content) as new:
        new.replace(path)


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # which gives it mode 0600
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield new
    finally:
        new.unlink(missing_ok=True)


def _enough(path: Path, at_least: int) -> bytes:
    content = path.read_bytes()
    if len(content) < at_least:
        raise Misconfigured(
            f"{path} holds {len(content)} bytes and needs {at_least}: put the right one back from a backup. Only where "
            "nothing depends on it yet, remove it, and a new one is made"
        )
    return content
