"""Whether a person or a machine opened or clicked: mail programs that fetch ahead, proxies, scanners of companies.

A pure decision. Nobody can be sure, so each rule says why, and the reason stands in the event (`machine_why`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Literal

AT_ONCE = timedelta(seconds=2)
"""Nobody reads a letter and clicks sooner after it was handed over; scanners on the way do."""
PROXY_AT_ONCE = timedelta(seconds=15)
"""A proxy of pictures that asks this soon fetches ahead; later a person looks through it."""
BURST = timedelta(seconds=1)
"""Nobody follows two links of a letter within this."""
AFTER_TRAP = timedelta(minutes=1)
"""How long what comes for a letter whose hidden link was followed counts as the same scanner's."""

# Apple's Mail Privacy Protection says this and nothing more.
_MPP = "Mozilla/5.0"
_PROXIES = re.compile(r"GoogleImageProxy|ggpht\.com|YahooMailProxy|via mail\.ru", re.IGNORECASE)
_PROGRAMS = re.compile(
    r"bot\b|crawl|spider|scan|preview|fetch|monitor|headless|phantom|proofpoint|mimecast|barracuda|symantec|trendmicro|"
    r"fireeye|cloudmark|safelinks|urldefense|ironport|sophos|forcepoint|facebookexternalhit|whatsapp|"
    r"^(?:curl|wget|python|java|go-http|okhttp|node|axios|ruby|perl|php|libwww|aiohttp|apache-httpclient|guzzle)",
    re.IGNORECASE,
)
NETWORKS = tuple(
    ip_network(text)
    for text in (
        "17.0.0.0/8",  # Apple
        "40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17",  # Exchange Online Protection
        "67.231.144.0/20", "148.163.128.0/19", "205.220.160.0/19",  # Proofpoint
        "207.211.30.0/24", "205.139.110.0/24", "170.10.128.0/24", "195.130.217.0/24", "91.220.42.0/24",  # Mimecast
        "209.222.80.0/21", "64.235.144.0/20",  # Barracuda
    )
)  # fmt: skip
"""Where those are whose machines look into letters."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asked, as far as one sees."""

    user_agent: str
    address: str
    prefetch: bool = False
    """Whether the browser itself says that nobody asked for it yet."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A click on the same letter shortly before."""

    ago: timedelta
    url: str
    trap: bool


def machine(
    what: Literal["opened", "clicked"],
    visit: Visit,
    since_sent: timedelta | None,
    url: str = "",
    earlier: Sequence[Earlier] = (),
) -> str | None:
    """Why this is a machine; None for a person.

    Args:
        what: of a letter.
        visit: who.
        since_sent: since the provider took the letter; None if it has not answered yet.
        url: where a click leads; empty is the hidden link that no person sees.
        earlier: clicks on the letter within AFTER_TRAP.
    """
    agent = visit.user_agent.strip()

    def within(limit: timedelta) -> bool:
        return since_sent is None or since_sent < limit

    reasons = (
        ("hidden link", what == "clicked" and not url),
        ("prefetch", visit.prefetch),
        ("program", not agent or agent == _MPP or bool(_PROGRAMS.search(agent))),
        ("network", _is_known(visit.address)),
        ("proxy", within(PROXY_AT_ONCE) and bool(_PROXIES.search(agent))),
        ("at once", within(AT_ONCE)),
        ("hidden link", any(one.trap for one in earlier)),
        ("many links", any(one.ago <= BURST and one.url != url for one in earlier)),
    )
    return next((why for why, holds in reasons if holds), None)


def _is_known(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in NETWORKS if network.version == mapped.version)
