"""SPF records (RFC 7208): which domains they refer to, and how often they make a receiver ask the DNS."""

import re
from collections.abc import Mapping, Sequence

LOOKUPS = 10
"""What receivers ask at most, records that are included counted in (section 4.6.4)."""
_ASKING = re.compile(r"[+?~-]?(?:include:|a\b|mx\b|ptr\b|exists:)|redirect=", re.IGNORECASE)
_REFERRING = re.compile(r"[+?~-]?include:(.+)|redirect=(.+)", re.IGNORECASE)
_ALL = re.compile(r"[+?~-]?all", re.IGNORECASE)
_COUNTED = 100


def records(txt: Sequence[str]) -> list[str]:
    """The SPF records among a domain's TXT records; more than one are as good as none."""
    return [one for one in txt if one.lower().split(" ")[0] == "v=spf1"]


def referred(record: str) -> list[str]:
    """The domains whose records belong to this one. Names that depend on the letter (macros) are left out."""
    terms = _terms(record)
    found = [match[1] or match[2] for term in terms if (match := _REFERRING.fullmatch(term))]
    return [name.rstrip(".").lower() for name in found if "%" not in name]


def cost(record: str, known: Mapping[str, Sequence[str]]) -> tuple[int, list[str]]:
    """How often a receiver has to ask the DNS at worst, and the domains that are referred to and have no record.

    Args:
        record: of the domain itself.
        known: the TXT records of the domains referred to. Records that go in circles cost more than LOOKUPS.
    """
    asked, without, waiting = 0, [], [record]
    while waiting and asked <= _COUNTED:
        one = waiting.pop()
        asked += sum(1 for term in _terms(one) if _ASKING.match(term))
        for name in referred(one):
            found = records(known.get(name, ()))
            if len(found) == 1:
                waiting.append(found[0])
            elif name in known:
                without.append(name)
    return asked, without


def _terms(record: str) -> list[str]:
    """What the record says; `redirect=` means nothing beside `all` (section 6.1)."""
    terms = record.split()[1:]
    if any(_ALL.fullmatch(term) for term in terms):
        return [term for term in terms if not term.lower().startswith("redirect=")]
    return terms
