"""What each kind of provider can do, from the registry: for `kaskad provider features` and docs/providers.md."""

from typing import Any

from channels.options import Options
from channels.registry import SCHEMES
from core.markdown import marks, put_between, table

MARKS = marks("kaskad provider features --write")


def matrix() -> list[dict[str, Any]]:
    """What goes out, a row for each kind in the order of the registry."""
    return [
        {
            "url": f"{name}://",
            "channel": scheme.channel,
            "sends": scheme.sends,
            "our_id_as": scheme.names or None,
            "attachments": scheme.attachments,
            "says_when_to_come_back": scheme.says_when,
            "knows_repeats": scheme.idempotent,
            "reads_content": scheme.needs_content,
            "messages_at_once": scheme.batch,
            "settings_in_url": scheme.query,
        }
        for name, scheme in SCHEMES.items()
    ]


def webhooks() -> list[dict[str, Any]]:
    """What comes back, a row for each kind that reports by webhook."""
    return [
        {
            "url": f"{name}://",
            "verified_by": scheme.verified,
            "covers_the_body": "body" in scheme.signs,
            "refuses_old_ones": "time" in scheme.signs,
        }
        for name, scheme in SCHEMES.items()
        if scheme.reports is not None
    ]


def options() -> list[dict[str, Any]]:
    """A row for each option that every provider takes."""
    return [
        {"option": name, "default": field.default, "meaning": field.description}
        for name, field in Options.model_fields.items()
    ]


def markdown() -> str:
    """All as tables of Markdown."""
    return "\n\n".join(table(rows) for rows in (matrix(), webhooks(), options()))


def put_into(page: str) -> str:
    """A page with the tables in the place of those it has. ValueError if it has no place for them."""
    return put_between(page, MARKS, markdown())
