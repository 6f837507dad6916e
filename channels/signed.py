"""Addresses that name a message and cannot be made up: where bounces (VERP) and replies come to.

`b-TOKEN@in.example.com` is a return path, `r-TOKEN@in.example.com` a Reply-To. The token is the message's id and a
signature (HMAC-SHA256 cut to 80 bits, a key for each use), in base32, because some servers turn local parts into small
letters: 42 characters, so that the whole local part stays within the 64 octets of RFC 5321, section 4.5.3.1.1.
"""

import hmac
import re
from base64 import b32decode, b32encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from channels.keys import derived_key
from core.settings import Settings

Use = Literal["bounce", "reply"]
_PREFIX: dict[Use, str] = {"bounce": "b-", "reply": "r-"}
_USES: dict[str, Use] = {prefix: use for use, prefix in _PREFIX.items()}
_SIGNATURE = 10
_TOKEN = re.compile(r"(b-|r-)([a-z2-7]{42})")
_ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]]{1,128}@[^\s<>,;:\"()\[\]]{1,253}")
_PAD = "=" * 6


@dataclass(frozen=True, slots=True)
class Addressed:
    """What one of our addresses says."""

    use: Use
    message_id: UUID


class SignedAddresses:
    """Makes and reads the addresses of an installation."""

    def __init__(self, secret: bytes, inbound: str) -> None:
        """Make it.

        Args:
            secret: of the installation.
            inbound: a domain that is ours alone, or a mailbox with a tail that its server ignores, such as
                `hello+@example.com`.
        """
        local, _, domain = inbound.rpartition("@")
        self.local, self.domain = local.lower(), domain.lower()
        self._keys = {use: derived_key(secret, f"mail:{use}") for use in _PREFIX}

    @classmethod
    def of(cls, settings: Settings) -> "SignedAddresses | None":
        """Those of this installation; None where no mail comes in."""
        return cls(settings.secret, settings.inbound_address) if settings.inbound_address else None

    def make(self, use: Use, message_id: UUID) -> str:
        """The address of a message for one use; about 5 microseconds."""
        raw = message_id.bytes
        token = b32encode(raw + self._signature(use, raw)).decode().rstrip("=").lower()
        return f"{self.local}{_PREFIX[use]}{token}@{self.domain}"

    def read(self, address: str) -> Addressed | None:
        """What an address says; None if it is not one of ours or its signature does not hold."""
        local, _, domain = address.strip().lower().rpartition("@")
        found = _TOKEN.fullmatch(local.removeprefix(self.local))
        if domain != self.domain or not local.startswith(self.local) or found is None:
            return None
        raw = b32decode(found[2].upper() + _PAD)
        use = _USES[found[1]]
        if not hmac.compare_digest(raw[16:], self._signature(use, raw[:16])):
            return None
        return Addressed(use, UUID(bytes=raw[:16]))

    def find(self, texts: Iterable[str]) -> Addressed | None:
        """The first of our addresses in texts, such as the values of headers."""
        for text in texts:
            for match in _ADDRESS.finditer(text):
                if (said := self.read(match.group())) is not None:
                    return said
        return None

    def _signature(self, use: Use, raw: bytes) -> bytes:
        return hmac.digest(self._keys[use], raw, "sha256")[:_SIGNATURE]
