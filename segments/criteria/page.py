"""Pages a contact looked at: `{page: /pricing*}`, `{page: {url: {contains: pricing}, count: {gte: 3}, within: 7d}}`."""

from typing import Any, ClassVar

from segments.criteria.doings import Doing, schema


class Page(Doing):
    """The contact looked at pages so many times, lately; * in an address stands for anything."""

    KEYS: ClassVar[tuple[str, ...]] = ("page",)
    NAME: ClassVar[str] = "page.viewed"
    PROPERTIES: ClassVar[tuple[str, ...]] = ("url", "path", "title", "referrer")
    SCHEMA: ClassVar[dict[str, Any]] = schema(*PROPERTIES)
    EXAMPLE: ClassVar[str] = "{page: /pricing*}"
    DID: ClassVar[str] = "looked at a page"

    @classmethod
    def property_of(cls, text: str) -> str:
        """A path begins with /, an address does not."""
        return "path" if text.startswith("/") else "url"
