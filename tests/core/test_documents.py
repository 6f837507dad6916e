"""Strict YAML: what is refused, and where."""

import pytest

from core import documents
from core.errors import InvalidInput


def _refused(source: str | bytes) -> tuple[int, int, str]:
    with pytest.raises(InvalidInput) as caught:
        documents.read(source, "f.yaml")
    problem = caught.value.problems[0]
    assert problem.file == "f.yaml"
    return problem.line, problem.column, str(problem)


def test_values_are_what_they_look_like() -> None:
    source = """
on: true
yes: no
time: 10:30
octal: 010
day: 2026-05-09
number: -1.5
whole: 42
nothing: ~
empty:
quoted: "true"
text: |
  12
merge: <<
"""
    assert documents.read(source).data == {
        "on": True,
        "yes": "no",
        "time": "10:30",
        "octal": "010",
        "day": "2026-05-09",
        "number": -1.5,
        "whole": 42,
        "nothing": None,
        "empty": None,
        "quoted": "true",
        "text": "12\n",
        "merge": "<<",
    }


def test_places_are_remembered() -> None:
    document = documents.read("a: 1\nb:\n  - c: [x, y]\n", "f.yaml")
    assert document.locate(()) == (1, 1)
    assert document.locate(("b", 0, "c")) == (3, 5)
    assert document.locate(("b", 0, "c", 1)) == (3, 12)
    assert document.locate(("b", 0, "missing")) == (3, 5)
    assert document.problem(("b", 0, "c"), "wrong").path == "/b/0/c"


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("a: 1\na: 2\n", 2, 1, "the key a stands twice; first on line 1"),
        ("x: &a [1]\ny: *a\n", 1, 4, "anchors and aliases"),
        ("x: !!python/object:os.system {}\n", 1, 4, "tags such as"),
        ("a: [1, 2\nb: 3\n", 2, 2, "this is not YAML"),
        ("a: b: c\n", 1, 5, "this is not YAML"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here"),
        ("5: x\n", 1, 1, "the key 5 is not a word"),
        ("? [a]\n: b\n", 1, 3, "a key must be a word"),
        ("", 1, 1, "the file is empty"),
        ("# nothing\n", 1, 1, "the file is empty"),
        (b"a: 1\nb: \xff\n", 2, 4, "byte 0xff is not UTF-8"),
        ("a: \x07\n", 1, 1, "this is not YAML"),
        ("[" * 100, 1, 61, "nested more than 60 deep"),
        ("x: " + "a" * 300_000, 1, 1, "more than the 262144 allowed"),
        ("- a\n" * 30_000, 20_000, 3, "more than 20000 values"),
    ],
)
def test_what_is_not_in_the_dialect_is_refused_with_its_place(
    source: str | bytes, line: int, column: int, message: str
) -> None:
    found_line, found_column, text = _refused(source)
    assert message in text
    assert (found_line, found_column) == (line, column)


def test_pointers_go_there_and_back() -> None:
    path = ("steps", 3, "if", "contact.a/b~c")
    assert documents.parts(documents.pointer(path)) == path
    assert documents.pointer(()) == ""


def test_did_you_mean() -> None:
    assert documents.did_you_mean("tempalte", ["template", "send"]) == "did you mean template?"
    assert documents.did_you_mean("zzz", ["a", "b"]) == "known: a, b"
