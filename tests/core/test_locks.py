"""Advisory locks: who takes one must not wait for somebody who is about something else."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "contacts", "segments", "journeys", "channels", "tracker", "reports", "engine", "studio")
_LOCK = re.compile(r"^_\w+ = (0x[0-9A-F]{8})\b", re.MULTILINE)


def test_every_lock_has_a_number_of_its_own() -> None:
    found = Counter(
        number
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for number in _LOCK.findall(file.read_text())
    )
    assert len(found) > 5
    assert [number for number, times in found.items() if times > 1] == []
