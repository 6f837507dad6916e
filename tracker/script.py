"""The snippet as it is served: its bytes, their hash, and the tag that puts it into a page."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from core.errors import Misconfigured

_FOLDER = Path(__file__).parent / "snippet"
_PART = re.compile(r"(?:.*-)?part-([a-z]+)\.js")
SCRIPT = ""
"""The name of the script itself among its parts."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a build made, and what is kept of earlier releases."""

    script: bytes
    stub: str
    """Goes into the page itself, and holds calls until the script is there."""
    parts: Mapping[str, bytes]
    """What the script loads on demand, by name. It knows their versions and integrity."""
    older: Sequence[tuple[str, bytes]] = ()
    """Scripts and parts of earlier releases, so that tags with their integrity keep working."""

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

    def of_version(self, version: str, part: str = SCRIPT) -> bytes | None:
        """The script or a part in a version, this one's or an earlier release's; None if there is none."""
        return self._versions.get((part, version))

    @cached_property
    def part_names(self) -> frozenset[str]:
        """The parts that there are, or were in a release whose script may still ask for them."""
        return frozenset({*self.parts, *(name for name, _ in self.older)} - {SCRIPT})

    @cached_property
    def _versions(self) -> Mapping[tuple[str, str], bytes]:
        found = [*self.older, *self.parts.items(), (SCRIPT, self.script)]
        return {(name, _version(content)): content for name, content in found}


def load(built: Path, released: Path) -> Bundle:
    """Read a build, and what was kept of earlier releases.

    Raises:
        Misconfigured: it was not built.
    """
    try:
        made, stub = (built / "tag.js").read_bytes(), (built / "stub.js").read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise Misconfigured("the site snippet was not built: install Kaskad anew (in a clone: make setup)") from error
    parts = {_part_of(file): file.read_bytes() for file in sorted(built.glob("part-*.js"))}
    older = [(_part_of(file), file.read_bytes()) for file in sorted(released.glob("*.js"))]
    return Bundle(made, stub, parts, older)


def _part_of(file: Path) -> str:
    found = _PART.fullmatch(file.name)
    return found[1] if found else SCRIPT


@cache
def bundle() -> Bundle:
    """The snippet of this installation.

    Raises:
        Misconfigured: it was not built.
    """
    return load(_FOLDER / "dist", _FOLDER / "released")


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
