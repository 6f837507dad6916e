"""XML that wants to do harm, or is none."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidInput
from journeys import bpmn
from journeys.bpmn import markup
from tests.journeys.bpmn.samples import CAMUNDA, REFUSED

_BOMB = (
    '<!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(20))
    + "]>\n<definitions>&u;</definitions>"
)
_OUTSIDE = '<?xml version="1.0"?>\n<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]><d>&x;</d>'
_PARAMETER = '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/evil.dtd"><d/>'


@pytest.mark.parametrize("text", [_BOMB, _OUTSIDE, _PARAMETER, "<!DOCTYPE d><d/>"])
def test_document_types_are_refused_before_anything_in_them_is_read(text: str) -> None:
    begin = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        markup.parse(text.encode(), "x.bpmn")
    (problem,) = caught.value.problems
    assert problem.message == "a document type is not allowed here"
    assert (problem.file, problem.line > 0, problem.column > 0) == ("x.bpmn", True, True)
    assert time.monotonic() - begin < 5


def test_an_entity_that_nobody_declared_is_refused() -> None:
    with pytest.raises(InvalidInput, match="this is not XML: undefined entity"):
        markup.parse(b"<d>&x;</d>")


def test_size_depth_and_number_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="nested more than 64 deep"):
        markup.parse(b"<a>" * 1_000_000)
    assert markup.parse(b"<a>" * 64 + b"</a>" * 64).name == "a"
    with pytest.raises(InvalidInput, match="more than 100000 elements"):
        markup.parse(b"<a>" + b"<b/>" * 200_000 + b"</a>")
    with pytest.raises(InvalidInput, match="more than the 8388608 allowed"):
        markup.parse(b" " * (markup.SIZE_LIMIT + 1))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "this is not XML: no element found"),
        (b"<a><b></a>", "this is not XML: mismatched tag"),
        (b"\xff\xfe\x00", "this is not XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', "encoding"),
        (b"<html/>", "this is not BPMN 2.0: it begins with html"),
        (b'<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL"/>', "there is no process in this file"),
    ],
)
def test_what_is_no_bpmn_is_said(content: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        bpmn.read(content, "x.bpmn")


def test_another_encoding_is_read() -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><a name="Имя"/>'
    assert markup.parse(text.encode("utf-16")).attributes == {"name": "Имя"}


@settings(max_examples=200, deadline=None)
@given(
    sample=st.sampled_from([CAMUNDA, REFUSED]),
    cut=st.integers(0, 7000),
    length=st.integers(0, 60),
    junk=st.sampled_from(["", '"', "<x/>", "Flow_1aa", "é\0", "startEvent", "&lt;", "P0D", "{", "kaskad"]),
)
def test_a_damaged_file_is_read_or_refused_in_words(sample: str, cut: int, length: int, junk: str) -> None:
    cut %= len(sample)
    try:
        found = bpmn.read((sample[:cut] + junk + sample[cut + length :]).encode(), "x.bpmn")
    except InvalidInput as error:
        assert all(one.message and one.file == "x.bpmn" and one.line > 0 for one in error.problems)
    else:
        assert found.text.startswith("journey: ")
