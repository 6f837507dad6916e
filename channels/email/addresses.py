"""Email addresses as they go on the wire: checked, with the domain in its ASCII form (IDNA)."""

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

from core.errors import InvalidInput

_FORBIDDEN_IN_LOCAL = re.compile(r'[\x00-\x20\x7f-\x9f()<>\[\]:;@\\,"\u2028\u2029]')
_ASCII_DOMAIN = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_DOMAIN_LITERAL = re.compile(r"\[(?:[0-9.]+|IPv6:[0-9A-Fa-f:.]+)\]")
_NAMED = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^<>"]*?))\s*<(?P<address>[^<>]*)>\s*', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox, with the display name it may have."""

    local: str
    domain: str
    name: str = ""

    @property
    def spec(self) -> str:
        """`local@domain`, the domain in ASCII."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can take it: its local part is not ASCII."""
        return not self.local.isascii()


@lru_cache(maxsize=4096)
def parse(text: str) -> Address:
    """Read `local@domain` or `Name <local@domain>`.

    The domain is lower-cased and turned into its ASCII form by IDNA 2008 with the mapping of UTS 46.

    Raises:
        InvalidInput: it is not one address, or hides a line break.
    """
    if any(character in text for character in "\r\n\0"):
        raise InvalidInput(f"the address {text!r} holds a line break or a null character")
    name, spec = "", text.strip()
    if spec.endswith(">"):
        match = _NAMED.fullmatch(spec)
        if match is None:
            raise InvalidInput(f"{text!r} is not an email address")
        quoted = match["quoted"]
        name = (match["plain"] or "") if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        spec = match["address"].strip()
    local, at, domain = spec.rpartition("@")
    return Address(_checked_local(local, text), _ascii_domain(domain if at else "", text), name.strip())


def _checked_local(local: str, text: str) -> str:
    wrong = (
        not local
        or _FORBIDDEN_IN_LOCAL.search(local)
        or local[0] == "."
        or local[-1] == "."
        or ".." in local
        or len(local.encode("utf-8", "replace")) > 64  # RFC 5321, section 4.5.3.1.1
    )
    if wrong or not _encodable(local):
        raise InvalidInput(f"{text!r} is not an email address: what stands before the @ cannot be used")
    return local


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _ascii_domain(domain: str, text: str) -> str:
    if _DOMAIN_LITERAL.fullmatch(domain):
        return domain
    ascii_form = domain.lower()
    if not domain.isascii():
        try:
            ascii_form = idna.encode(domain, uts46=True).decode()
        except (idna.IDNAError, UnicodeError) as error:
            raise InvalidInput(f"the domain of {text!r} is not valid: {error}") from error
    if len(ascii_form) > 253 or not _ASCII_DOMAIN.fullmatch(ascii_form):
        raise InvalidInput(f"{text!r} is not an email address: its domain cannot be used")
    return ascii_form
