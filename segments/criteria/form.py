"""Forms a contact sent: `{form: subscribe}`, `{form: {form: contact-us, where: {event.topic: prices}}}`."""

from typing import Any, ClassVar

from segments.criteria.doings import Doing, schema


class Form(Doing):
    """The contact sent a form of the site so many times, lately."""

    KEYS: ClassVar[tuple[str, ...]] = ("form",)
    NAME: ClassVar[str] = "form.submitted"
    PROPERTIES: ClassVar[tuple[str, ...]] = ("form",)
    SCHEMA: ClassVar[dict[str, Any]] = schema(*PROPERTIES)
    EXAMPLE: ClassVar[str] = "{form: subscribe}"
    DID: ClassVar[str] = "sent a form"
