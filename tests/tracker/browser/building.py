"""The snippet, built anew with parts that only a test knows."""

import subprocess
from pathlib import Path

from tests.peers import missing_peer, needs_peer
from tracker import script
from tracker.script import Bundle

SNIPPET = Path(script.__file__).parent / "snippet"


def built(folder: Path, **parts: str) -> Bundle:
    """Build the snippet into a folder with parts of these names, and sources in JavaScript."""
    node = needs_peer("node", "nodejs")
    if not (SNIPPET / "node_modules" / "esbuild").is_dir():
        missing_peer("needs esbuild (npm ci --ignore-scripts in tracker/snippet)")
    options = []
    for name, source in parts.items():
        (folder / f"{name}.js").write_text(source)
        options += ["--part", f"{name}={folder / name}.js"]
    command = [node, "build.mjs", "--out", str(folder / "dist"), *options]
    done = subprocess.run(command, cwd=SNIPPET, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return script.load(folder / "dist", folder / "released")
