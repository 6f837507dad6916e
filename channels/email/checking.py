"""What stands between a letter or a domain and the inbox: said in words, with what to do about it.

The findings are pure: about what the DNS answered, and about a letter's bytes. `lookup` asks the DNS.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from html.parser import HTMLParser
from typing import Literal

import dns.asyncresolver
import dns.exception
import dns.resolver

from channels.email import spf, verifying
from channels.email.inbound import letters
from core.errors import Unavailable

GMAIL_CLIP = 102 * 1024
"""Gmail shows no more of a letter's HTML than this, in bytes."""
_FOLLOWED = 30
"""Domains that SPF refers to which are looked up."""
_TIMEOUT = 5.0

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    message: str
    mend: str = ""


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


# A letter


def of_letter(source: bytes) -> list[Finding]:
    """What a letter's bytes (a file .eml) have that keeps it out of inboxes, or makes it worse there."""
    message = letters.parse(source)
    if message is None:
        return [Finding("letter", "problem", "it is nested too deeply to be read", "send parts that hold no letters")]
    html, text = letters.content(message, "html"), letters.content(message, "plain")
    found = [*_headers(message), *_unsubscribing(message, html), *_size(html)]
    if html and not text:
        found.append(Finding("text", "warning", "there is no plain text beside the HTML", "add a part --- text"))
    return found + of_html(html)


def of_signatures(source: bytes, found: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Whether a letter's signatures hold, by the records of their keys (see `keys`)."""
    told = []
    for one in verifying.signatures(source):
        about = f"DKIM {one.tags.get('s', '?')}"
        if not one.name:
            told.append(Finding(about, "problem", "the signature names no key", "it needs d= and s="))
        elif why := verifying.fault(source, one, found.get(one.name, ())):
            mend = "compare the letter as it left with what came; something on the way may change letters"
            told.append(Finding(about, "problem", f"the signature of {one.tags['d']} does not hold: {why}", mend))
        else:
            told.append(Finding(about, "ok", f"the signature of {one.tags['d']} holds"))
    return told


def of_template(html: str, text: str) -> list[Finding]:
    """What a compiled template has; tags that are filled later are no links or images."""
    found = _size(html)
    if "unsubscribe_url" not in html + text:
        found.append(
            Finding("unsubscribe", "warning", "people see no link to unsubscribe", "add {{ unsubscribe_url }}")
        )
    return found + of_html(html)


def of_html(html: str) -> list[Finding]:
    """What the HTML of a letter has."""
    page = _Page()
    page.feed(html)
    page.close()
    found = []
    if page.without_alt:
        words = f"{len(page.without_alt)} images have no alt text: {', '.join(page.without_alt[:3])[:200]}"
        found.append(Finding("images", "warning", words, 'write alt="…", or alt="" for decoration'))
    plain = sorted({link for link in page.links if link.startswith("http://")})
    if plain:
        found.append(Finding("links", "warning", f"{len(plain)} links are not https: {plain[0][:200]}", "use https://"))
    empty = [link for link in page.links if link.strip() in ("", "#")]
    if empty:
        found.append(Finding("links", "problem", f"{len(empty)} links lead nowhere", "give them an address"))
    shown = sum(1 for link, label in page.labelled if _misleads(link, label))
    if shown:
        mend = "show words in the place of addresses; filters take it for phishing"
        found.append(Finding("links", "warning", f"{shown} links show another host than they lead to", mend))
    if page.scripts:
        found.append(
            Finding("HTML", "problem", "there are scripts or forms, which mail programs drop", "take them out")
        )
    return found


def _headers(message: Message) -> list[Finding]:
    found = [
        Finding("headers", "problem", f"{name} is missing", "every letter needs it")
        for name in ("From", "Date", "Message-ID", "Subject")
        if not letters.header(message, name)
    ]
    if len(message.get_all("From", [])) > 1:
        found.append(Finding("headers", "problem", "there are several From headers", "write one"))
    if not letters.header(message, "DKIM-Signature"):
        found.append(Finding("DKIM", "warning", "the letter is not signed", "set dkim_key on the provider"))
    subject = letters.header(message, "Subject")
    if len(subject) > 78:
        found.append(Finding("subject", "warning", f"the subject has {len(subject)} characters", "telephones show 40"))
    return found


def _unsubscribing(message: Message, html: str) -> list[Finding]:
    if not letters.header(message, "List-Unsubscribe"):
        mend = "marketing needs it (RFC 8058); Kaskad adds it to every purpose but transactional"
        return [Finding("unsubscribe", "problem", "there is no List-Unsubscribe header", mend)]
    found = []
    if "one-click" not in letters.header(message, "List-Unsubscribe-Post").lower():
        found.append(Finding("unsubscribe", "problem", "unsubscribing takes more than one click", "see RFC 8058"))
    if html and "/u/" not in html and "unsubscribe" not in html.lower() and "отписаться" not in html.lower():
        mend = "add {{ unsubscribe_url }}"
        found.append(Finding("unsubscribe", "warning", "people see no link to unsubscribe", mend))
    return found


def _size(html: str) -> list[Finding]:
    size = len(html.encode())
    if size > GMAIL_CLIP:
        words = f"the HTML has {size // 1024} KB; Gmail cuts it at 102 and hides the rest"
        return [Finding("size", "problem", words, "shorten it; the unsubscribe link is what gets lost")]
    return [Finding("size", "ok", f"the HTML has {size // 1024} KB")] if html else []


class _Page(HTMLParser):
    """Links with what they show, and images without alt."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.labelled: list[tuple[str, str]] = []
        self.without_alt: list[str] = []
        self.scripts = 0
        self._open: str | None = None
        self._label = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at links, images and what does not belong there."""
        given = dict(attrs)
        if tag == "a" and "href" in given:
            self._open, self._label = given["href"] or "", ""
            self.links.append(self._open)
        elif tag == "img" and "alt" not in given:
            self.without_alt.append(given.get("src") or "?")
        elif tag in ("script", "form", "iframe", "object", "embed"):
            self.scripts += 1

    def handle_data(self, data: str) -> None:
        """Gather what a link shows."""
        self._label += data

    def handle_endtag(self, tag: str) -> None:
        """A link ends."""
        if tag == "a" and self._open is not None:
            self.labelled.append((self._open, self._label.strip()))
            self._open = None


def _misleads(link: str, label: str) -> bool:
    shown = re.match(r"(?:https?://)?((?:[\w-]+\.)+[a-z]{2,})(?:/|$)", label, re.IGNORECASE)
    leads = re.match(r"https?://([^/?#]+)", link, re.IGNORECASE)
    if not shown or not leads or "/t/c/" in link:
        return False
    mine, theirs = shown[1].lower().removeprefix("www."), leads[1].lower().removeprefix("www.")
    return mine != theirs and not theirs.endswith(f".{mine}")
