"""The command line as a whole: what is in it, and that it does not load what it does not need."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from studio.cli import COMMANDS, app

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "contacts", "segments", "journeys", "channels", "tracker", "reports", "engine", "studio")
_HEAVY = ("temporalio", "fastapi", "sqlalchemy", "psycopg", "pydantic", "httpx", "jinja2", "alembic")

# Runs a command to its end and says which of some modules it has loaded.
_LOADED = """
import sys
from studio.cli import main
heavy, sys.argv = sys.argv[1].split(","), ["kaskad", *sys.argv[2:]]
try:
    main()
except SystemExit:
    pass
print("LOADED", *[name for name in heavy if name in sys.modules])
"""


def _loaded(heavy: tuple[str, ...], *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, ",".join(heavy), *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert _loaded(_HEAVY, *words) == []


@pytest.mark.parametrize("words", [("contacts", "list"), ("key", "list"), ("events", "count"), ("segment", "list")])
def test_lists_do_not_load_temporal(words: tuple[str, ...]) -> None:
    assert _loaded(("temporalio",), *words) == []
    assert _loaded(("sqlalchemy",), *words) == ["sqlalchemy"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_that_stands_for_a_command_is_that_of_the_command(name: str) -> None:
    command = COMMANDS[name].load(name)
    assert command.name == name
    assert COMMANDS[name].help == command.help.split("\n\n")[0]


def _written() -> Iterator[tuple[str, list[str], set[str]]]:
    """The commands that the documentation writes out: where, the command's words, and the options on its line."""
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))):
        spans = re.findall(r"`(kaskad [^`\n]+)`|^ {4}(kaskad .+)$", file.read_text(), re.MULTILINE)
        for inline, block in spans:
            line = (inline or block).partition("#")[0]
            words = list(itertools.takewhile(re.compile(r"[a-z][a-z-]*$").match, line.split()[1:]))
            yield f"{file.name}: {line}", words, set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line))


def test_the_documentation_names_commands_and_options_that_there_are() -> None:
    loaded = {name: place.load(name) for name, place in COMMANDS.items()}
    seen = 0
    for where, words, options in _written():
        if not words:
            continue
        assert words[0] in loaded, where
        command = loaded[words[0]]
        if len(words) > 1 and hasattr(command, "commands"):
            assert words[1] in command.commands, where
            command = command.commands[words[1]]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert options <= known | {"--help"}, where
        seen += 1
    assert seen > 100


def test_every_command_of_the_packages_has_its_place() -> None:
    placed = {module for place in COMMANDS.values() for module in place.modules}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            if module != "studio.cli" and re.search(r"^app = typer\.Typer", file.read_text(), re.MULTILINE):
                assert module in placed, f"name {module} in COMMANDS of studio/cli.py"
    for module in placed:
        groups = {name for name, place in COMMANDS.items() if place.is_group and module in place.modules}
        own = set(get_group(_whole(module)).commands)
        assert groups or own <= set(COMMANDS), f"{module} has {own - set(COMMANDS)}, which COMMANDS does not name"


def _whole(module: str) -> typer.Typer:
    whole: typer.Typer = import_module(module).app
    return whole


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name in COMMANDS:
        assert f" {name} " in said


_WITH_TEMPORAL = """
import atexit, os
import temporalio.bridge.temporal_sdk_bridge
from studio import cli
class Late:
    def __del__(self, write=os.write):
        write(1, b"taken apart")
late = Late()
atexit.register(print, "left")
cli.script()
"""


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["up", "--role", "nobody"], 2)])
def test_an_interpreter_with_temporal_in_it_is_left_and_not_taken_apart(words: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_TEMPORAL, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith("left\n")
    assert "no such role: nobody" in done.stderr if code else "Usage: " in done.stdout
