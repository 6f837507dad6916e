"""Whatever a file says, it either loads or is refused in words: no other error, and every problem has a place."""

from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import journeys
from core.errors import InvalidInput
from examples import FOLDERS
from segments import criteria, store

_SOURCES = [yaml.safe_load(file.read_text()) for folder in FOLDERS for file in folder.glob("*/*.yaml")]
_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["", "end", "letter", "x" * 300, "until 10:00", "now-1d", "all", "a\0b", "é", "4h", "99999999999d"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["then", "until", "send", "wait", "if", "id", "all", "not", "event", "contact.x", "steps", ""]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def _spots(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(spot for key, value in items for spot in _spots(value, (*path, key)))]


def _replaced(data: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    if isinstance(data, dict):
        return {key: _replaced(value, path[1:], junk) if key == path[0] else value for key, value in data.items()}
    return [_replaced(value, path[1:], junk) if key == path[0] else value for key, value in enumerate(data)]


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@st.composite
def _damaged(draw: Any) -> str:
    data = draw(st.sampled_from(_SOURCES))
    for _ in range(draw(st.integers(1, 3))):
        data = _replaced(data, draw(st.sampled_from(_spots(data))), draw(_JUNK))
    return yaml.dump(data, Dumper=_Plain, allow_unicode=True, sort_keys=False)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=_damaged())
def test_a_damaged_file_is_refused_in_words(text: str) -> None:
    for read in (journeys.load, store.parse):
        try:
            read(text, "f.yaml")
        except InvalidInput as error:
            assert error.problems
            for problem in error.problems:
                assert (problem.file, problem.line > 0, problem.column > 0) == ("f.yaml", True, True)
                assert problem.message


@settings(max_examples=300, deadline=None)
@given(data=_JUNK)
def test_any_data_is_criteria_or_refused(data: Any) -> None:
    try:
        parsed = criteria.parse(data, "/x")
    except InvalidInput as error:
        assert all(problem.path.startswith("/x") for problem in error.problems)
    else:
        assert str(parsed.clause())


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80) | st.binary(max_size=80))
def test_any_bytes_are_a_journey_or_refused(text: str | bytes) -> None:
    try:
        journeys.load(text, "f.yaml")
    except InvalidInput as error:
        assert all(problem.line > 0 for problem in error.problems)
