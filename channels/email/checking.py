"""What stands between a letter or a domain and the inbox: said in words, with what to do about it.

Pure: about a letter's bytes. What is to be said of its domain is in `domains`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser
from typing import Literal

from channels.email import verifying
from channels.email.inbound import letters

GMAIL_CLIP = 102 * 1024
"""Gmail shows no more of a letter's HTML than this, in bytes."""

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    message: str
    mend: str = ""


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
