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

_MOMENT = {"type": "integer", "minimum": 0, "maximum": 253_402_300_799_000}
_MARK = {"type": "string", "pattern": "^[A-Za-z0-9_-]{8,64}$"}

_ANY_TEXT = {"type": "string"}
_PERHAPS_TEXT = {"type": ["string", "null"], "maxLength": 200}

_HIT: dict[str, Any] = {
    "title": "Hit",
    "type": "object",
    "required": ["id", "name", "at"],
    "properties": {
        "id": {**_MARK, "description": "Another one for each event; repeats of the last 7 days are not stored again."},
        "name": _EVENT["properties"]["event"],
        "at": {**_MOMENT, "description": "Milliseconds since 1970 by the browser's clock."},
        "props": {"type": ["object", "null"], "maxProperties": _DEFAULTS.properties - 5, "additionalProperties": True},
        "url": {"type": ["string", "null"], "description": "The page, if it is not that of `ctx`."},
    },
}

HITS_BODY: dict[str, Any] = {
    "required": True,
    "description": "JSON in UTF-8; the content type is not looked at. Unknown fields are ignored.",
    "content": {
        "text/plain": {
            "schema": {
                "title": "Hits",
                "type": "object",
                "required": ["v", "key", "sent"],
                "properties": {
                    "v": {"const": 1},
                    "key": {"type": "string", "minLength": 1, "maxLength": 100, "description": "The site's write key."},
                    "sent": {**_MOMENT, "description": "When this was sent, by the same clock as `at`."},
                    "anon": {
                        "oneOf": [_MARK, {"type": "null"}],
                        "description": "Null if the visitor allows no storage.",
                    },
                    "ctx": {
                        "type": "object",
                        "properties": dict.fromkeys(("url", "ref", "title", "lang", "tz"), _ANY_TEXT),
                    },
                    "events": {"type": "array", "items": _HIT, "maxItems": 100},
                    "ident": {
                        "type": ["object", "null"],
                        "properties": dict.fromkeys(("external_id", "email", "phone", "signature"), _PERHAPS_TEXT)
                        | {"attributes": {"type": ["object", "null"]}},
                    },
                },
            },
            "examples": {
                "page": {
                    "summary": "A page view",
                    "value": {
                        "v": 1,
                        "key": "ks_…",
                        "sent": 1793000003120,
                        "anon": "0b5c0c1e-6c64-4d5c-9a50-0a8a6f7ad1a1",
                        "ctx": {"url": "https://portal.example/support?utm_source=letter", "lang": "ru-RU"},
                        "events": [{"id": "7c9e6679-7425-40de-944b", "name": "page.viewed", "at": 1793000002801}],
                    },
                }
            },
        }
    },
}
