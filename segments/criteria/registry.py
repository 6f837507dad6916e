"""Every family of criteria. A new one is a file in this folder and a line here."""

from segments.criteria.attribute import Attribute
from segments.criteria.base import Leaf
from segments.criteria.consent import Consent
from segments.criteria.event import Event
from segments.criteria.identity import Identity
from segments.criteria.journey import Journey
from segments.criteria.message import Message
from segments.criteria.profile import Profile
from segments.criteria.segment import Segment
from segments.criteria.tag import Tag

FAMILIES: tuple[type[Leaf], ...] = (
    Consent,
    Event,
    Identity,
    Journey,
    Message,
    Profile,
    Segment,
    Tag,
    Attribute,  # last: it takes every other contact.… key
)

BY_KEY: dict[str, type[Leaf]] = {key: family for family in FAMILIES for key in family.KEYS}
