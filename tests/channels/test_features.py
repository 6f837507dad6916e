"""The tables of docs/providers.md are those of the code."""

from pathlib import Path

import pytest

from channels import features
from channels.registry import SCHEMES

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def test_the_page_is_current() -> None:
    page = PAGE.read_text()
    assert features.put_into(page) == page, "run kaskad provider features --write docs/providers.md"


def test_every_kind_is_in_the_matrix() -> None:
    assert [row["url"] for row in features.matrix()] == [f"{name}://" for name in SCHEMES]


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        features.put_into("# Nothing")
