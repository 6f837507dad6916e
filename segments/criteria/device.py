"""What a contact came with: `{device: mobile}`, `{device: {os: iOS, which: last}}`."""

from typing import Any, ClassVar, Self

from segments.criteria import visits
from segments.criteria.base import Context

FIELDS = ("device", "brand", "model", "browser", "os")


class Device(visits.Visited):
    """A session on such a device (desktop, mobile, tablet, tv, console; its brand and model), browser or system."""

    KEYS: ClassVar[tuple[str, ...]] = ("device",)
    SCHEMA: ClassVar[dict[str, Any]] = {"anyOf": [{"type": ["string", "array"]}, visits.schema(("kind", *FIELDS[1:]))]}

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a kind of device or several, or the mapping under `device`."""
        if not isinstance(value, dict):
            value = {"kind": value}
        if "device" in value:
            context.problem("unknown key device", "did you mean kind?", "device")
            return None
        renamed = {"device" if name == "kind" else name: one for name, one in value.items()}
        found = visits.read(renamed, FIELDS, context, "{device: {kind: mobile, os: iOS}}")
        return cls(**found) if found is not None else None
