"""What OpenAPI says about the body of POST /v1/events. It is read by hand, for speed; tests hold the two together."""

from typing import Any

from tracker.wire import ID_LENGTH, IDENTITIES, NAME_LENGTH, Limits

_DEFAULTS = Limits()
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}

_EVENT: dict[str, Any] = {
    "title": "Event",
    "type": "object",
    "additionalProperties": False,
    "required": ["event", "contact"],
    "properties": {
        "event": {
            "type": "string",
            "maxLength": NAME_LENGTH,
            "pattern": r"^(?!journey\.|message\.|segment\.)[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$",
            "description": "Lower-case words joined by dots. `journey.`, `message.` and `segment.` are Kaskad's.",
        },
        "contact": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": dict.fromkeys(IDENTITIES, _TEXT),
            "description": "Exactly one thing the contact is known by. Somebody unknown becomes a new contact.",
        },
        "id": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": ID_LENGTH,
            "description": "Another one for each event; repeats of the last 7 days are not stored again.",
        },
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "When it happened (RFC 3339, with an offset); now if left out. At most 5 minutes ahead.",
        },
        "properties": {
            "type": ["object", "null"],
            "maxProperties": _DEFAULTS.properties,
            "additionalProperties": True,
            "description": (
                f"Anything that is worth knowing: at most {_DEFAULTS.properties} names, {_DEFAULTS.property_bytes:,} "
                f"bytes, {_DEFAULTS.depth} levels. A number called `value` is what reports sum."
            ),
        },
    },
}
_LIST = {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": _DEFAULTS.events}
_EXAMPLE = {
    "id": "c0ffee-17",
    "event": "application.saved",
    "contact": {"external_id": "u-17"},
    "at": "2026-03-01T10:00:00Z",
    "properties": {"application_id": "A-4711", "status": "draft", "value": 12000},
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": 'One event, an array of events, or `{"events": [...]}`. The content type is not looked at.',
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    _EVENT,
                    _LIST,
                    {
                        "title": "Events",
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["events"],
                        "properties": {"events": _LIST},
                    },
                ]
            },
            "examples": {
                "one": {"summary": "One event", "value": _EXAMPLE},
                "several": {"summary": "Several events", "value": {"events": [_EXAMPLE]}},
            },
        }
    },
}
