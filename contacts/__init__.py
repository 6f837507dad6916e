"""Contacts: profiles, identities, consents, suppressions, import and erasure."""

from contacts import scores
from contacts.identities import attach, normalise, resolve
from contacts.profiles import ConsentItem, Item, Limits, Profile, Upserted, apply, get, upsert

__all__ = [
    "ConsentItem",
    "Item",
    "Limits",
    "Profile",
    "Upserted",
    "apply",
    "attach",
    "get",
    "normalise",
    "resolve",
    "scores",
    "upsert",
]
