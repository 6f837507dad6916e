"""Links of the site that a contact followed: `{link: "https://partner.example.com/*"}`; downloads are links."""

from typing import Any, ClassVar

from segments.criteria.doings import Doing, schema


class Link(Doing):
    """The contact followed a link of the site, downloads among them; * in an address stands for anything."""

    KEYS: ClassVar[tuple[str, ...]] = ("link",)
    NAME: ClassVar[str] = "link.clicked"
    PROPERTIES: ClassVar[tuple[str, ...]] = ("url",)
    SCHEMA: ClassVar[dict[str, Any]] = schema(*PROPERTIES)
    EXAMPLE: ClassVar[str] = '{link: "https://example.com/price.pdf"}'
    DID: ClassVar[str] = "followed a link"
