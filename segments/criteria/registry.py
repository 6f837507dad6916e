"""Every family of criteria. A new one is a file in this folder and a line here."""

from segments.criteria.activity import Activity
from segments.criteria.attribute import Attribute
from segments.criteria.base import Leaf
from segments.criteria.company import Company
from segments.criteria.consent import Consent
from segments.criteria.device import Device
from segments.criteria.event import Event
from segments.criteria.form import Form
from segments.criteria.geography import Geography
from segments.criteria.identity import Identity
from segments.criteria.journey import Journey
from segments.criteria.link import Link
from segments.criteria.message import Message
from segments.criteria.not_since import NotSince
from segments.criteria.page import Page
from segments.criteria.profile import Profile
from segments.criteria.random_share import RandomShare
from segments.criteria.referrer import Referrer
from segments.criteria.rfm import Rfm
from segments.criteria.score import Score
from segments.criteria.segment import Segment
from segments.criteria.sequence import Sequence
from segments.criteria.session import Session
from segments.criteria.suppression import Suppressed
from segments.criteria.tag import Tag
from segments.criteria.utm import Utm

FAMILIES: tuple[type[Leaf], ...] = (
    Activity,
    Company,
    Consent,
    Device,
    Event,
    Form,
    Geography,
    Identity,
    Journey,
    Link,
    Message,
    NotSince,
    Page,
    Profile,
    RandomShare,
    Referrer,
    Rfm,
    Score,
    Segment,
    Sequence,
    Session,
    Suppressed,
    Tag,
    Utm,
    Attribute,  # last: it takes every other contact.… key
)

BY_KEY: dict[str, type[Leaf]] = {key: family for family in FAMILIES for key in family.KEYS}
