"""DKIM signatures (RFC 6376, relaxed/relaxed) with RSA-2048 and Ed25519 (RFC 8463), one or both on each letter.

The work is cut in two. `draft` is plain Python: it canonicalises, hashes and writes the signature header but for its
value. `seal` is the private key's part; `cryptography` releases the interpreter lock there, so a thread can seal one
batch while the loop sends another.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from core.errors import InvalidInput, Misconfigured, Problem

MIN_RSA_BITS = 1024  # RFC 8301, section 3.2: signers use at least this, and should use 2048

# Signed wherever they stand in the letter. Each is named once more than it stands there, so that nobody can add
# another one later ("oversigning", RFC 6376, section 8.15). The List-* pair is what RFC 8058, section 4 asks for.
SIGNED = (
    "from",
    "to",
    "cc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
)

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_PADDING = padding.PKCS1v15()
_PREHASHED = Prehashed(SHA256())
_SPACES = re.compile(rb"  +")


class DkimKey(BaseModel):
    """One key in a provider's settings: a file, or the PEM itself (in the encrypted secret)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    selector: str = Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    file: Path | None = None
    pem: SecretStr | None = None


class DkimSettings(BaseModel):
    """`dkim` in a provider's settings: the signing domain and its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str = Field(pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")
    keys: tuple[DkimKey, ...] = Field(min_length=1, max_length=4)

    @classmethod
    def checked(cls, domain: str | None, keys: Sequence[dict[str, Any]]) -> Self:
        """The settings from what a person gave.

        Raises:
            InvalidInput: no domain or no key, or a name that cannot stand in the DNS.
        """
        try:
            return cls.model_validate({"domain": domain or "", "keys": list(keys)})
        except ValidationError as error:
            problems = [
                Problem(f"{problem['loc'][-1]}: {problem['msg']}", path="DKIM")
                for problem in error.errors(include_input=False)
            ]
            raise InvalidInput(*problems) from None


@dataclass(frozen=True, slots=True)
class Key:
    """A private key with the selector under which its public half stands in the DNS."""

    selector: str
    private: PrivateKey

    @property
    def algorithm(self) -> str:
        """The `a=` tag."""
        return "rsa-sha256" if isinstance(self.private, rsa.RSAPrivateKey) else "ed25519-sha256"

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: PKCS#1 v1.5 for RSA, and PureEdDSA over the digest for Ed25519 (RFC 8463, 3)."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(digest, _PADDING, _PREHASHED)
        return self.private.sign(digest)


@dataclass(frozen=True, slots=True)
class Draft:
    """A signature header that lacks its value, and the digest that the value signs."""

    key: Key
    header: bytes
    digest: bytes

    def seal(self) -> bytes:
        """The finished header with its final CRLF."""
        signature = base64.b64encode(self.key.sign(self.digest))
        lines = [signature[start : start + 72] for start in range(0, len(signature), 72)]
        return b"DKIM-Signature: %s%s\r\n" % (self.header, b"\r\n ".join(lines))


class Signer:
    """Signs letters for one domain. Keys are loaded once; the body is hashed once for all of them."""

    def __init__(self, domain: str, keys: Sequence[Key]) -> None:
        self.domain = domain
        self.keys = tuple(keys)

    @classmethod
    def of(cls, settings: DkimSettings) -> Self:
        """Load the keys that the settings name.

        Raises:
            Misconfigured: a key is missing, unreadable or of a kind that DKIM does not know.
        """
        return cls(settings.domain, [Key(key.selector, _load(key)) for key in settings.keys])

    def draft(self, fields: Sequence[tuple[str, bytes]], body: bytes, at: datetime) -> list[Draft]:
        """Everything about the signatures but the private keys' part.

        Args:
            fields: header names and folded values, in the order of the letter.
            body: with CRLF line ends, before dot-stuffing.
            at: the `t=` tag.
        """
        headers = [(name.lower(), relaxed_value(value)) for name, value in fields]
        listed = _listed(tuple([name for name, _ in headers]))
        hashed = hashlib.sha256(_signed_block(headers, listed))
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        shared = b" t=%d;\r\n h=%s;\r\n bh=%s;\r\n b=" % (int(at.timestamp()), listed, body_hash)
        return [self._draft(key, hashed.copy(), shared) for key in self.keys]

    def _draft(self, key: Key, hashed: "hashlib._Hash", shared: bytes) -> Draft:
        start = f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={self.domain}; s={key.selector};\r\n"
        header = start.encode() + shared
        # The signature's own header goes last, with an empty value and without CRLF: RFC 6376, section 3.7.
        hashed.update(b"dkim-signature:" + relaxed_value(header))
        return Draft(key, header, hashed.digest())

    def sign(self, fields: Sequence[tuple[str, bytes]], body: bytes, at: datetime) -> bytes:
        """The signature headers of one letter, ready to stand before its others."""
        return b"".join([draft.seal() for draft in self.draft(fields, body, at)])


@lru_cache(maxsize=256)
def _listed(names: tuple[str, ...]) -> bytes:
    """The `h=` tag, folded: each of SIGNED as often as it stands in the letter, and once more."""
    lines = [":".join([name] * (names.count(name) + 1)) for name in SIGNED]
    return ":\r\n  ".join(lines).encode()


def _signed_block(headers: Sequence[tuple[str, bytes]], listed: bytes) -> bytes:
    """The canonical headers in the order of `h=`: of several with one name the last comes first (section 5.4.2)."""
    block: list[bytes] = []
    for wanted in SIGNED:
        block += [b"%s:%s\r\n" % (name.encode(), value) for name, value in reversed(headers) if name == wanted]
    return b"".join(block)


def relaxed_value(value: bytes) -> bytes:
    """A header's value in relaxed form: unfolded, runs of white space as one space, none at the ends (3.4.2)."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"")
    if b"\t" in value:
        value = value.replace(b"\t", b" ")
    return _SPACES.sub(b" ", value).strip(b" ")


def relaxed_body(body: bytes) -> bytes:
    """A body in relaxed form: no white space at line ends, runs of it as one space, no empty lines at the end (3.4.4).

    Searches for literal strings, because a character class costs ten times as much over a letter of 17 KB.
    """
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    body = _SPACES.sub(b" ", body)
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = body.rstrip(b" ") if body.endswith(b" ") else body
    if body.endswith(b"\r\n\r\n"):
        body = _without_empty_end(body)
    if body == b"\r\n":
        return b""
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"


def _without_empty_end(body: bytes) -> bytes:
    end = len(body)
    while body[end - 4 : end] == b"\r\n\r\n":
        end -= 2
    return body[:end]


# Keys


def _load(key: DkimKey) -> PrivateKey:
    if (key.file is None) == (key.pem is None):
        raise Misconfigured(f"DKIM selector {key.selector}: give either the key's file or its PEM")
    if key.pem is not None:
        return load_pem(key.pem.get_secret_value().encode(), key.selector)
    assert key.file is not None  # noqa: S101 - said two lines above, for the type checker
    try:
        pem = key.file.read_bytes()
    except OSError as error:
        raise Misconfigured(f"DKIM selector {key.selector}: {key.file} cannot be read: {error.strerror}") from error
    return load_pem(pem, key.selector)


def load_pem(pem: bytes, selector: str) -> PrivateKey:
    """A private key from its PEM (PKCS#8 or the older forms of OpenSSL), without a passphrase.

    Raises:
        Misconfigured: it is no key, or one that DKIM does not know or that receivers refuse.
    """
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"DKIM selector {selector}: not a usable private key in PEM form: {error}") from error
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private
    if not isinstance(private, rsa.RSAPrivateKey):
        raise Misconfigured(f"DKIM selector {selector}: DKIM knows RSA and Ed25519 keys only")
    if private.key_size < MIN_RSA_BITS:
        raise Misconfigured(f"DKIM selector {selector}: an RSA key of {private.key_size} bits is refused everywhere")
    return private


def generate(algorithm: str) -> PrivateKey:
    """A new key: `rsa` (2048 bits, which every receiver takes and a DNS record holds) or `ed25519`."""
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def to_pem(private: PrivateKey) -> bytes:
    """PKCS#8, without a passphrase."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def dns_record(private: PrivateKey) -> str:
    """The TXT record that belongs at `<selector>._domainkey.<domain>` (RFC 6376, 3.6.1; RFC 8463, 4.2)."""
    if isinstance(private, ed25519.Ed25519PrivateKey):
        kind, public = "ed25519", private.public_key().public_bytes_raw()
    else:
        kind = "rsa"
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode()}"


def zone_line(domain: str, selector: str, private: PrivateKey) -> str:
    """The record as a line of a zone file: strings of a TXT record hold at most 255 characters each."""
    record = dns_record(private)
    strings = " ".join(f'"{record[start : start + 255]}"' for start in range(0, len(record), 255))
    return f"{selector}._domainkey.{domain}. IN TXT ( {strings} )"
