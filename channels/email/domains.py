"""What the DNS says of a domain that letters come from, and what that means for them.

The findings are pure; `lookup` and `keys` ask the DNS.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dns.asyncresolver
import dns.exception
import dns.resolver

from channels.email import spf, verifying
from channels.email.checking import Finding
from core.errors import Unavailable

_FOLLOWED = 30
"""Domains that SPF refers to which are looked up."""
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Records:
    """What the DNS says of a domain that mail comes from."""

    mx: Sequence[str] = ()
    txt: Sequence[str] = ()
    dmarc: Sequence[str] = ()
    dkim: dict[str, Sequence[str]] = field(default_factory=dict)
    """By selector."""
    included: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The TXT records of the domains that SPF refers to."""


async def lookup(domain: str, selectors: Sequence[str], server: tuple[str, int] | None = None) -> Records:
    """Ask the DNS.

    Args:
        domain: of the sender's address.
        selectors: of its DKIM keys.
        server: address and port of a resolver; the system's if not given.

    Raises:
        Unavailable: the DNS does not answer.
    """
    ask = _asking(server)
    txt = await ask(domain, "TXT")
    return Records(
        await ask(domain, "MX"),
        txt,
        await ask(f"_dmarc.{domain}", "TXT"),
        {selector: await ask(f"{selector}._domainkey.{domain}", "TXT") for selector in selectors},
        await _included(ask, txt),
    )


async def keys(source: bytes, server: tuple[str, int] | None = None) -> dict[str, list[str]]:
    """The TXT records of the keys that a letter's signatures name, by that name; raises Unavailable."""
    ask = _asking(server)
    return {one.name: await ask(one.name, "TXT") for one in verifying.signatures(source) if one.name}


_Ask = Callable[[str, str], Awaitable[list[str]]]


def _asking(server: tuple[str, int] | None) -> _Ask:
    resolver = dns.asyncresolver.Resolver(configure=server is None)
    if server is not None:
        resolver.nameservers, resolver.port = [server[0]], server[1]
    resolver.lifetime = _TIMEOUT

    async def ask(name: str, kind: str) -> list[str]:
        try:
            answer = await resolver.resolve(name, kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise Unavailable(f"the DNS does not answer for {name}: {error}") from error
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
        return [str(record.exchange).rstrip(".") for record in answer]

    return ask


async def _included(ask: _Ask, txt: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    waiting = [name for record in spf.records(txt) for name in spf.referred(record)]
    while waiting and len(found) < _FOLLOWED:
        name = waiting.pop(0)
        if name not in found:
            found[name] = await ask(name, "TXT")
            waiting += [other for record in spf.records(found[name]) for other in spf.referred(record)]
    return found


def of_records(domain: str, records: Records) -> list[Finding]:
    """What a domain's records mean for its letters."""
    return [*_mx(domain, records.mx), *_spf(records), *_dkim(domain, records.dkim), *_dmarc(domain, records.dmarc)]


def _mx(domain: str, mx: Sequence[str]) -> list[Finding]:
    if not mx or list(mx) == [""]:
        mend = f"publish an MX for {domain}: replies have nowhere to go, and some receivers refuse such senders"
        return [Finding("MX", "warning", "the domain takes no mail", mend)]
    return [Finding("MX", "ok", f"mail goes to {', '.join(sorted(mx))}")]


def _spf(records: Records) -> list[Finding]:
    found = spf.records(records.txt)
    if not found:
        return [Finding("SPF", "problem", "there is no SPF record", 'publish TXT "v=spf1 include:… ~all"')]
    if len(found) > 1:
        return [Finding("SPF", "problem", f"there are {len(found)} SPF records, so none counts", "merge them into one")]
    return [_spf_record(found[0], records.included)]


def _spf_record(record: str, included: Mapping[str, Sequence[str]]) -> Finding:
    asked, without = spf.cost(record, included)
    if without:
        words = f"SPF refers to {', '.join(without[:3])}, which has no SPF record, so none of it counts"
        return Finding("SPF", "problem", words, "take out what refers to it")
    if asked > spf.LOOKUPS:
        words = f"SPF asks the DNS {asked} times, what it includes counted in, and receivers stop at {spf.LOOKUPS}"
        return Finding("SPF", "problem", words, "write networks (ip4:…) in the place of include:")
    terms = record.split()[1:]
    last = terms[-1].lower() if terms else ""
    if last in ("+all", "all"):
        return Finding("SPF", "problem", "SPF lets everybody send for the domain", "end it with ~all or -all")
    if not (last.endswith("all") or last.startswith("redirect=")):
        return Finding("SPF", "warning", "SPF does not say what of all the others", "end it with ~all or -all")
    return Finding("SPF", "ok", record[:200])


def _dkim(domain: str, keys: dict[str, Sequence[str]]) -> list[Finding]:
    if not keys:
        mend = "name its selectors: --selector k1; `kaskad email dkim-key` makes a key"
        return [Finding("DKIM", "warning", "no key was looked for: the DNS does not list them", mend)]
    found = []
    for selector, records in keys.items():
        about, where = f"DKIM {selector}", f"{selector}._domainkey.{domain}"
        tags = [verifying.tags(one) for one in records if "p=" in one]
        if not tags:
            found.append(Finding(about, "problem", f"there is no key at {where}", "publish what dkim-key printed"))
        elif not tags[0].get("p"):
            found.append(Finding(about, "problem", f"the key at {where} was revoked", "sign with another key"))
        elif len(tags[0]["p"]) < 200 and tags[0].get("k", "rsa") == "rsa":
            found.append(Finding(about, "problem", f"the RSA key at {where} is short", "make one of 2048 bits"))
        else:
            found.append(Finding(about, "ok", f"a {tags[0].get('k', 'rsa')} key is at {where}"))
    return found


def _dmarc(domain: str, records: Sequence[str]) -> list[Finding]:
    found = [one for one in records if one.lower().startswith("v=dmarc1")]
    if len(found) != 1:
        words = "there is no DMARC record" if not found else "there are several DMARC records, so none counts"
        mend = f'publish at _dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:…"; big receivers want one'
        return [Finding("DMARC", "problem", words, mend)]
    tags = verifying.tags(found[0])
    if tags.get("p", "").lower() not in ("none", "quarantine", "reject"):
        return [Finding("DMARC", "problem", "DMARC has no policy", "add p=none, quarantine or reject")]
    if tags["p"].lower() == "none":
        mend = "go on to p=quarantine when the reports show no letters of yours failing"
        return [Finding("DMARC", "warning", "DMARC only watches (p=none)", mend)]
    if "rua" not in tags:
        return [Finding("DMARC", "warning", "nobody gets DMARC's reports", "add rua=mailto:…")]
    return [Finding("DMARC", "ok", found[0][:200])]
