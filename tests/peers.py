"""Programs from Debian packages that some tests talk to."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/libexec")


def needs_peer(program: str, package: str) -> str:
    """The path of a program that the calling test needs.

    Where it is missing the test is skipped, saying which package has it; with KASKAD_REQUIRE_PEERS=1 it fails.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_FOLDERS])
    found = shutil.which(program, path=path)
    if found is None:
        missing_peer(f"needs {program} from the Debian package {package} (apt-get install {package})")
    return str(Path(found))


def missing_peer(reason: str) -> NoReturn:
    """Skip the calling test, saying why; with KASKAD_REQUIRE_PEERS=1 fail it."""
    if os.environ.get("KASKAD_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)  # `make test` needs no package but those that Kaskad installs itself
