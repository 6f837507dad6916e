"""What strangers wrote is shown, and steers nothing."""

import io
import os
import sys

import pytest
from rich.markup import escape
from rich.table import Table

from core import cli, terminal
from core.errors import InvalidInput
from core.terminal import SafeConsole, one_line, write

ATTACK = "a\x1b]0;title\x07\x9b2J\r\x08\u202egpj.exe\ud800"
STEERING = set("\x1b\x07\x9b\r\x08\u202e\ud800")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 100 columns is sent."""
    file = io.StringIO()
    monkeypatch.setattr(cli, "console", SafeConsole(file=file, width=100))
    return file


def test_cells_lines_and_names_steer_nothing(shown: io.StringIO) -> None:
    cli.output([{"name": ATTACK, ATTACK: [ATTACK]}], json=False)
    cli.output({ATTACK: ATTACK}, json=False)
    cli.console.print(escape(ATTACK), soft_wrap=True)
    table = Table()
    table.add_column(ATTACK, footer=ATTACK)
    cli.console.print(table)
    printed = shown.getvalue()
    assert not STEERING & set(printed)
    assert printed.count("gpj.exe") >= 6 and "␛" in printed


def test_styles_still_reach_a_terminal() -> None:
    file = io.StringIO()
    SafeConsole(file=file, width=100, force_terminal=True, color_system="standard").print("[bold]yes[/]\x1b")
    assert file.getvalue() == "\x1b[1myes\x1b[0m␛\n"


def test_a_text_cannot_leave_its_line() -> None:
    assert one_line("a\nb\u2028c\td") == "a␤b␤c d"
    assert not (STEERING | {"\n"}) & set(one_line(ATTACK))


def test_an_error_about_a_stranger_s_text_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(terminal, "complaints", SafeConsole(file=file, width=40))
    terminal.complain(InvalidInput(f"no such event {ATTACK}\nerror: none"))
    assert file.getvalue().count("\n") == 1 and not STEERING & set(file.getvalue())


def test_texts_are_exact_for_a_file_and_harmless_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\x1b[2Jб\n"
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        write(text)
    assert os.read(ours, 100).decode() == "a␛[2Jб\r\n"
    os.close(ours)
    monkeypatch.setattr(sys, "stdout", file := io.StringIO())
    write(text)
    assert file.getvalue() == text
