"""Ids that are derived, so that repeating work finds the same row instead of making another."""

import hashlib
from uuid import UUID


def message_id(enrollment_id: int, visit: int) -> UUID:
    """The id of the message that this visit of this enrollment sends; the same however often it is asked.

    A version 8 UUID (RFC 9562, section 5.8), whose 122 free bits hold both numbers. Ids of one batch lie side by side
    in the ledger's index, where digests would be scattered over it.
    """
    bits = enrollment_id << 58 | visit
    return UUID(int=bits >> 74 << 80 | 8 << 76 | (bits >> 62 & 0xFFF) << 64 | 2 << 62 | bits & (1 << 62) - 1)


def derived_uuid(space: str, name: str) -> UUID:
    """A version 8 UUID for a name within a space of names."""
    return UUID(derived_hex(space, name))


def derived_hex(space: str, name: str) -> str:
    """The same as 32 hexadecimal digits; making a UUID object would take twice as long as all the rest."""
    digest = bytearray(hashlib.sha256(f"{space}\0{name}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return digest.hex()


def seed(contact_id: int) -> int:
    """A number from 0 to 2^32-1 that stays with a contact; splits hash it, so arms are sticky."""
    return int.from_bytes(hashlib.sha256(b"seed\0%d" % contact_id).digest()[:4], "big")
