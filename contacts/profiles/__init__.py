"""Profiles: what is known about contacts, written in bulk and read one by one."""

from contacts.profiles.applying import apply
from contacts.profiles.items import (
    ConsentItem,
    Item,
    Limits,
    Upserted,
    check_language,
    check_tag,
    check_time_zone,
)
from contacts.profiles.reading import Profile, find, get, page
from contacts.profiles.upserting import upsert

__all__ = [
    "ConsentItem",
    "Item",
    "Limits",
    "Profile",
    "Upserted",
    "apply",
    "check_language",
    "check_tag",
    "check_time_zone",
    "find",
    "get",
    "page",
    "upsert",
]
