"""IP addresses of visitors: which one is the visitor's, and how much of it may be known. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDED_HOPS = 20
_LONGEST = 100
"""Characters. An IPv6 address with its zone and brackets has half as many."""
_V4_KEPT = -1 << 32 - 24
_V6_KEPT = -1 << 128 - 48
_V6_SUBSCRIBER = -1 << 128 - 64


def read(text: str) -> Address | None:
    """An address as it stands in a header or comes from a socket, IPv4 in IPv6's clothes undressed; None if it is
    none.
    """
    return _read(text) if len(text) <= _LONGEST else None  # before it is remembered: a header may have a megabyte


@lru_cache(8192)
def _read(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip().removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses.

    Raises:
        ValueError: one is neither; the message names it.
    """
    return tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts)


@lru_cache(16)
def listed(text: str) -> tuple[Network, ...]:
    """Networks with commas between them, as KASKAD_TRUSTED_PROXIES has them; raises ValueError as `networks` does."""
    return networks(one for one in text.split(",") if one.strip())


def within(address: Address, known: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in known)


def visitor(peer: str, forwarded: str, trusted: Sequence[Network]) -> Address | None:
    """The visitor's address.

    Args:
        peer: who is at the other end of the connection.
        forwarded: the X-Forwarded-For header, to which each proxy appends whom it was asked by.
        trusted: proxies that are believed. Only they are: anybody else may have written anything into the header.

    Returns:
        The last address that no trusted proxy has; None if there is none to be read.
    """
    address = read(peer)
    if not forwarded or not trusted or address is None or not within(address, trusted):
        return address
    for hop in reversed(forwarded.split(",")[-FORWARDED_HOPS:]):
        named = read(hop)
        if named is None:
            return address
        address = named
        if not within(address, trusted):
            return address
    return address


def truncated(address: Address) -> Address:
    """The address without its last part: /24 of IPv4, /48 of IPv6 is left."""
    if address.version == 4:
        return ipaddress.IPv4Address(int(address) & _V4_KEPT)
    return ipaddress.IPv6Address(int(address) & _V6_KEPT)


def bucket(address: Address | None) -> str:
    """What requests are counted by: the address, or of IPv6 the /64, all of which one subscriber has."""
    if address is None:
        return ""
    if address.version == 4:
        return str(address)
    return str(ipaddress.IPv6Address(int(address) & _V6_SUBSCRIBER))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
