"""The snippet as it is served: its bytes, their hash, and the tag that puts it into a page."""

import base64
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.errors import Misconfigured

_FOLDER = Path(__file__).parent / "snippet"
_DIST = _FOLDER / "dist"
_OLDER = _FOLDER / "released"
"""The scripts of earlier releases, so that tags with their integrity keep working."""


@dataclass(frozen=True)
class Bundle:
    """What a build made."""

    script: bytes
    stub: str
    """Goes into the page itself, and holds calls until the script is there."""

    @property
    def version(self) -> str:
        """Names exactly these bytes."""
        return _version(self.script)

    @property
    def integrity(self) -> str:
        """What a browser holds the script to (Subresource Integrity)."""
        return _integrity(self.script)

    @property
    def stub_hash(self) -> str:
        """What a Content-Security-Policy names to allow the stub inline."""
        return f"sha256-{base64.b64encode(hashlib.sha256(self.stub.encode()).digest()).decode()}"


@cache
def bundle() -> Bundle:
    """The snippet of this installation.

    Raises:
        Misconfigured: it was not built.
    """
    try:
        return Bundle((_DIST / "tag.js").read_bytes(), (_DIST / "stub.js").read_text("utf-8").strip())
    except FileNotFoundError as error:
        raise Misconfigured("the site snippet was not built: install Kaskad anew (in a clone: make setup)") from error


@cache
def of_version(version: str) -> bytes | None:
    """The script of a version: this one's, or an earlier release's; None if there is none."""
    scripts = [bundle().script, *(file.read_bytes() for file in sorted(_OLDER.glob("*.js")))]
    return next((script for script in scripts if _version(script) == version), None)


def tag(
    key: str,
    script_url: str,
    *,
    endpoint: str | None = None,
    pinned: bool = True,
    stub: bool = True,
    options: Mapping[str, str] | None = None,
) -> str:
    """The HTML for the head of every page of a site.

    Args:
        key: the site's write key.
        script_url: where the script is, as a browser sees it.
        endpoint: where hits go; `e` beside the script if not given.
        pinned: name this version and its integrity. A tag without them always gets the present version.
        stub: with the stub inline; False for pages that allow no inline script and bring the stub themselves.
        options: further attributes by their names without `data-`, such as consent.
    """
    made = bundle()
    attributes = {"src": f"{script_url}?v={made.version}" if pinned else script_url, "data-key": key}
    if endpoint is not None:
        attributes["data-endpoint"] = endpoint
    attributes |= {f"data-{name}": value for name, value in (options or {}).items()}
    if pinned:
        attributes |= {"integrity": made.integrity, "crossorigin": "anonymous"}
    written = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    inline = f"<script>{made.stub}</script>\n" if stub else ""
    return f"{inline}<script async {written}></script>"


def _version(script: bytes) -> str:
    return hashlib.sha256(script).hexdigest()[:16]


def _integrity(script: bytes) -> str:
    return f"sha384-{base64.b64encode(hashlib.sha384(script).digest()).decode()}"
