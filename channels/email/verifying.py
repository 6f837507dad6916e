"""Whether the DKIM signatures of a saved letter hold (RFC 6376, section 6.1; RFC 8463). Pure: keys are given."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from channels.email.dkim import relaxed_body, relaxed_value

LIMIT = 5
"""Signatures of a letter that are looked at."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_FIELD = re.compile(rb"\r\n(?![ \t])")
_VALUE = re.compile(rb"((?:^|;)\s*b\s*=)[^;]*")
_Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Signature:
    """A DKIM-Signature header: where it stands among the headers, and its tags."""

    place: int
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """Where its key is in the DNS; empty if it names none."""
        selector, domain = self.tags.get("s", ""), self.tags.get("d", "")
        named = _NAME.fullmatch(selector) and _NAME.fullmatch(domain)
        return f"{selector}._domainkey.{domain}" if named else ""


def tags(record: str) -> dict[str, str]:
    """The tags of a signature, or of a DKIM or DMARC record; white space in values means nothing."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs if name.strip()}


def signatures(source: bytes) -> list[Signature]:
    """The letter's signatures, the newest first, at most LIMIT."""
    fields, _ = _taken_apart(source)
    found = [(place, value) for place, (name, value) in enumerate(fields) if name.strip().lower() == b"dkim-signature"]
    return [Signature(place, tags(value.decode("latin-1"))) for place, value in found[:LIMIT]]


def fault(source: bytes, signature: Signature, records: Sequence[str]) -> str | None:
    """What is wrong with a signature; None if it holds.

    Args:
        source: the letter.
        signature: of this letter.
        records: the TXT records at `signature.name`.
    """
    said, (fields, body) = signature.tags, _taken_apart(source)
    signed = said.get("h", "").lower().split(":")
    if "from" not in signed:
        return "it does not sign From"
    of_head, _, of_body = said.get("c", "simple").lower().partition("/")
    content = relaxed_body(body) if of_body == "relaxed" else _simple_body(body)
    if said.get("l", "").isdecimal():
        content = content[: int(said["l"])]
    if base64.b64encode(hashlib.sha256(content).digest()).decode() != said.get("bh"):
        return "the body was changed after it was signed"
    digest = hashlib.sha256(_signed_head(fields, signature.place, signed, of_head == "relaxed")).digest()
    try:
        _verify(said, records, digest)
    except InvalidSignature:
        return "the headers were changed after they were signed, or the key is another"
    except ValueError as error:
        return str(error)
    return None


def _taken_apart(source: bytes) -> tuple[_Fields, bytes]:
    """Headers and body as they went over the wire; a saved file may have lost the carriage returns."""
    wired = source if b"\r\n" in source else source.replace(b"\n", b"\r\n")
    head, _, body = wired.partition(b"\r\n\r\n")
    fields = [(name, value) for name, _, value in (field.partition(b":") for field in _FIELD.split(head))]
    return fields, body


def _simple_body(body: bytes) -> bytes:
    """Without the empty lines at its end (section 3.4.3)."""
    end = len(body)
    while body[:end].endswith(b"\r\n"):
        end -= 2
    return body[:end] + b"\r\n"


def _signed_head(fields: _Fields, place: int, signed: Sequence[str], relaxed: bool) -> bytes:
    """What the signature is made of: of several headers of one name the last is taken first (section 5.4.2), and the
    signature's own comes last, without its value."""
    left = [field for number, field in enumerate(fields) if number != place]
    taken: _Fields = []
    for name in signed:
        for number in range(len(left) - 1, -1, -1):
            if left[number][0].strip().lower() == name.encode():
                taken.append(left.pop(number))
                break
    own, value = fields[place]
    last = _canonical(own, _VALUE.sub(rb"\1", value, count=1), relaxed)
    return b"".join(_canonical(*field, relaxed) + b"\r\n" for field in taken) + last


def _canonical(name: bytes, value: bytes, relaxed: bool) -> bytes:
    return name.strip().lower() + b":" + relaxed_value(value) if relaxed else name + b":" + value


def _verify(said: Mapping[str, str], records: Sequence[str], digest: bytes) -> None:
    """Raises InvalidSignature, or ValueError in words where there is nothing to verify with."""
    key = next((found["p"] for found in map(tags, records) if found.get("p")), None)
    if key is None:
        raise ValueError("there is no key for it in the DNS")
    algorithm = said.get("a", "").lower()
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise ValueError(f"receivers do not take its algorithm {algorithm!r}")
    try:
        value = base64.b64decode(said.get("b", ""), validate=True)
        public = _public(base64.b64decode(key, validate=True), algorithm)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the key or the signature cannot be read, or they are of two kinds") from error
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(value, digest)
    else:
        public.verify(value, digest, padding.PKCS1v15(), Prehashed(SHA256()))


def _public(raw: bytes, algorithm: str) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    if algorithm == "ed25519-sha256":
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    public = load_der_public_key(raw)
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("a key of another kind")
    return public
