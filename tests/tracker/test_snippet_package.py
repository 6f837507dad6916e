"""The snippet as a package: small, without addresses of registries, with types that hold, and complete when packed."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers import missing_peer, needs_peer
from tracker import script

_FOLDER = Path(script.__file__).parent / "snippet"
_LARGEST = 5120


def test_the_script_is_small() -> None:
    assert len(gzip.compress(script.bundle().script, mtime=0)) <= _LARGEST
    assert len(script.bundle().stub) <= 200


def test_the_script_needs_no_eval_and_calls_nobody() -> None:
    text = script.bundle().script.decode()
    assert "eval(" not in text and "Function(" not in text
    assert "http" not in text.replace("https?:", "").replace("https:", ""), "no address is built in"


def test_the_lock_file_names_no_registry() -> None:
    text = (_FOLDER / "package-lock.json").read_text()
    assert "://" not in text and "resolved" not in text
    lock = json.loads(text)["packages"]
    assert all("integrity" in package for path, package in lock.items() if path)
    assert "dependencies" not in json.loads((_FOLDER / "package.json").read_text()), "who installs it gets nothing else"


@pytest.fixture(scope="module")
def node() -> str:
    """Node, beside what `make setup` installed."""
    found = needs_peer("node", "nodejs")
    if not (_FOLDER / "node_modules" / "typescript").is_dir():
        missing_peer("needs typescript (npm ci --ignore-scripts in tracker/snippet)")
    return found


def test_the_types_hold(node: str, tmp_path: Path) -> None:
    compiler = [node, str(_FOLDER / "node_modules" / "typescript" / "bin" / "tsc")]
    done = subprocess.run([*compiler, "--noEmit"], cwd=_FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    user = tmp_path / "user.ts"
    user.write_text(f"""import {{ start }} from '{_FOLDER}/types/kaskad';
const kaskad = start({{ key: 'ks_1', endpoint: '/k/e', consent: 'full' }});
kaskad('track', 'cart.changed', {{ items: 2 }});
kaskad('identify', {{ external_id: 'u-1' }});
// @ts-expect-error a consent is one of three
kaskad('consent', 'perhaps');
// @ts-expect-error an event has a name
kaskad('track');
""")
    strict = ["--noEmit", "--strict", "--lib", "es2020,dom", "--module", "esnext"]
    done = subprocess.run(
        [*compiler, *strict, "--moduleResolution", "bundler", str(user)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_packed_module_has_all_it_needs_and_runs(node: str, tmp_path: Path) -> None:
    npm = needs_peer("npm", "npm")
    command = [npm, "pack", "--ignore-scripts", "--json", "--pack-destination", str(tmp_path)]
    environment = {**os.environ, "npm_config_update_notifier": "false"}
    done = subprocess.run(
        command, cwd=_FOLDER, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (packed,) = json.loads(done.stdout)
    assert {file["path"] for file in packed["files"]} == {
        *("LICENSE", "README.md", "package.json", "types/kaskad.d.ts"),
        *("dist/module.js", "dist/tag.js", "dist/stub.js"),
    }
    subprocess.run(["tar", "xzf", tmp_path / packed["filename"], "-C", tmp_path], check=True)
    module = tmp_path / "package" / "dist" / "module.js"
    done = subprocess.run(
        [node, "--input-type=module", "-e", f"console.log(typeof (await import('{module}')).start)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "function\n", done.stderr


def lost(folder: Path) -> list[str]:
    """What tags and scripts of releases name, and is no more what it was."""
    version = json.loads((folder / "package.json").read_text())["version"]
    found = []
    for line in (folder / "released" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        kept = folder / "released" / name
        if not kept.is_file() or hashlib.sha256(kept.read_bytes()).hexdigest() != digest:
            found.append(f"{name} is not what was released")
        built = folder / "dist" / name.removeprefix(f"{version}-")
        if built.name != name and (not built.is_file() or hashlib.sha256(built.read_bytes()).hexdigest() != digest):
            found.append(f"{built.name} changed without a new version")
    return found


def test_what_was_released_is_kept() -> None:
    assert lost(_FOLDER) == []


def test_a_release_is_kept_and_its_loss_is_noticed(node: str, tmp_path: Path) -> None:
    folder = tmp_path / "tracker" / "snippet"
    shutil.copytree(_FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "released"))
    shutil.copy(_FOLDER.parent.parent / "LICENSE", tmp_path)
    (folder / "node_modules").symlink_to(_FOLDER / "node_modules")
    (tmp_path / "slots.js").write_text("kaskad('part', 'slots', () => {});")
    command = [node, "build.mjs", "--release", "--part", f"slots={tmp_path}/slots.js"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert lost(folder) == []
    made = script.load(folder / "dist", folder / "released")
    (folder / "dist" / "tag.js").write_text("changed")
    assert lost(folder) == ["tag.js changed without a new version"]
    after = script.load(folder / "dist", folder / "released")
    assert after.of_version(made.version) == made.script
    assert after.of_version(hashlib.sha256(made.parts["slots"]).hexdigest()[:16], "slots") == made.parts["slots"]
    (folder / "package.json").write_text('{"version": "9.0.0"}')
    assert lost(folder) == []
    (folder / "released" / "0.1.0-tag.js").unlink()
    assert lost(folder) == ["0.1.0-tag.js is not what was released"]
