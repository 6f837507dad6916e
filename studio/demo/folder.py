"""The demo's own data folder: made anew for each run, and never anybody else's thrown away."""

import os
import shutil
from pathlib import Path

from core import running
from core.errors import Conflict, Misconfigured

_MARK = "this-is-a-demo"
_WORDS = "Made by `kaskad demo`, which replaces this folder when it is run again.\n"


def fresh(folder: Path) -> bool:
    """Make an empty folder for a demo; what an earlier demo left there goes. Gives whether there was something.

    Raises:
        Conflict: a demo runs there now.
        Misconfigured: the folder holds something that no demo made, or it cannot be written.
    """
    try:
        replaced = _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).write_text(_WORDS)
    except OSError as error:
        raise Misconfigured(
            f"the folder {folder} cannot be used: {error.strerror}; name another with --data"
        ) from error
    return replaced


def _clear(folder: Path) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / _MARK).is_file():
        raise Misconfigured(
            f"{folder} holds something that no demo made, so it is left alone; name another with --data"
        )
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    try:
        # Held while the folder is moved away, so that of two demos begun at once one is refused.
        with running.holding(folder):
            folder.rename(old)
    except Conflict as error:
        raise Conflict(
            f"a demo runs over {folder} already ({error}); stop it first, or name another folder with --data"
        ) from None
    shutil.rmtree(old)
    return True
