"""SNS without its network, for the tests of vendors."""

import pytest

from channels.email.vendors import ses
from channels.email.vendors.sns import Sns
from tests.channels.email.vendors.signed import Amazon


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Amazon:
    """What lies at SNS' addresses."""
    made = Amazon()
    monkeypatch.setattr(ses, "sns", Sns(made.fetch))
    return made
