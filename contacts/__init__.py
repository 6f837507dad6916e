"""Contacts: profiles, identities, consents, suppressions, import and erasure."""

from contacts import scores
from contacts.identifying import Identified, Rules, identify
from contacts.identities import attach, normalise, resolve
from contacts.profiles import ConsentItem, Item, Limits, Profile, Upserted, apply, get, upsert

__all__ = [
    "ConsentItem",
    "Identified",
    "Item",
    "Limits",
    "Profile",
    "Rules",
    "Upserted",
    "apply",
    "attach",
    "get",
    "identify",
    "normalise",
    "resolve",
    "scores",
    "upsert",
]
