"""The system user that PostgreSQL runs as: it refuses to be root."""

import contextlib
import os
import subprocess
from pathlib import Path

from core.errors import Misconfigured
from studio.stack.process import Account
from studio.stack.programs import MAJOR

OWN_USER = "kaskad"
"""The system user that is made for the server when root runs Kaskad."""


def server_account(data: Path, wanted: str | None = None) -> Account | None:
    """Who the server over a data folder runs as: ourselves (None), or for root an unprivileged account.

    That is the one who owns the cluster already, the one asked for, `kaskad` (made if need be), or `nobody`.

    Raises:
        Misconfigured: the account does not exist.
    """
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError, KeyError):
        owner = Account.owning(data / "postgres" / MAJOR)
        if owner.uid != 0:
            return owner
    if wanted is None:
        return _own_account()
    try:
        return Account.named(wanted)
    except KeyError:
        raise Misconfigured(f"KASKAD_POSTGRES_USER names {wanted!r}, and this machine has no such user") from None


def _own_account() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin", OWN_USER]
    with contextlib.suppress(KeyError):
        return Account.named(OWN_USER)
    with contextlib.suppress(OSError, subprocess.CalledProcessError, KeyError):
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - fixed words
        return Account.named(OWN_USER)
    with contextlib.suppress(KeyError):
        return Account.named("nobody")
    raise Misconfigured(
        "PostgreSQL does not run as root and this machine has no user for it: create one named `kaskad` "
        "(useradd --system kaskad), or run Kaskad as an ordinary user"
    )
