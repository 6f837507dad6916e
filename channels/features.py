"""What each kind of provider can do, from the registry: for `kaskad provider features` and docs/providers.md."""

from typing import Any

from channels.options import Options
from channels.registry import SCHEMES
from core.markdown import marks, put_between, table

MARKS = marks("kaskad provider features --write")


def matrix() -> list[dict[str, Any]]:
    """A row for each kind, in the order of the registry."""
    return [
        {
            "url": f"{name}://",
            "channel": scheme.channel,
            "settings_in_url": scheme.query,
            "reports_by_webhook": scheme.reports is not None,
            "knows_repeats": scheme.idempotent,
            "reads_content": scheme.needs_content,
            "messages_at_once": scheme.batch,
        }
        for name, scheme in SCHEMES.items()
    ]


def options() -> list[dict[str, Any]]:
    """A row for each option that every provider takes."""
    return [
        {"option": name, "default": field.default, "meaning": field.description}
        for name, field in Options.model_fields.items()
    ]


def markdown() -> str:
    """Both as tables of Markdown."""
    return f"{table(matrix())}\n\n{table(options())}"


def put_into(page: str) -> str:
    """A page with the tables in the place of those it has. ValueError if it has no place for them."""
    return put_between(page, MARKS, markdown())
