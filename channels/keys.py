"""Keys for each use, derived from the installation's secret, so that no key serves two ends."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.settings import Settings


def derived_key(secret: bytes, use: str) -> bytes:
    """A 32-byte key for one use (HKDF with SHA-256, RFC 5869)."""
    return HKDF(SHA256(), length=32, salt=None, info=f"kaskad:{use}".encode()).derive(secret)


def webhook_key(settings: Settings) -> bytes:
    """The key that calls and webhooks are signed with, as `kaskad journey webhook-key` prints it."""
    return derived_key(settings.secret, "webhook").hex().encode()
