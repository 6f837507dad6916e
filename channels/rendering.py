"""Turning a compiled template and a contact's values into a letter."""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jinja2 import Template
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import files
from channels.filling import Unfilled
from channels.policy import Reason, Skip
from channels.sandbox import RENDER_ERRORS, MissingValue, Sandbox, Scope
from channels.tokens import Signers, row_bytes
from channels.variables import analyse
from channels.webhook import call as webhook
from channels.webhook.call import Call
from core.errors import NotFound
from core.settings import Settings

_HTML = Sandbox(autoescape=True)
_TEXT = Sandbox(autoescape=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_GAPS = re.compile(r"\n{3,}")
CACHED_VERSIONS = 256
_ROOTS = ("contact", "event", "journey")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A letter's content. The subject has no line breaks; `html` is empty for channels that are text only."""

    subject: str
    html: str
    text: str
    call: Call | None = None
    """Of a webhook; `text` is then its body, for people to read."""
    invite: Mapping[str, str] | None = None
    """Of a letter with an invitation; see channels.files."""


class Compiled:
    """One version of a template, ready to be rendered: Jinja templates made once."""

    def __init__(self, compiled: Mapping[str, Any]) -> None:
        self.sender: str | None = compiled.get("sender")
        self.reply_to: str | None = compiled.get("reply_to")
        self.variables: frozenset[str] = frozenset(compiled["variables"])
        self._paths = sorted({tuple(path.split(".")[:2]) for path in self.variables if path.split(".")[0] in _ROOTS})
        self.call: Mapping[str, Any] | None = compiled.get("call")
        """Of a webhook: what is called, its texts as templates."""
        self.attachments = files.unpacked(compiled.get("files", ()))
        self._invite = {field: _make(_TEXT, text) for field, text in compiled.get("invite", {}).items()}
        self._subject = _make(_TEXT, compiled.get("subject"))
        self._html = _make(_HTML, compiled.get("html"))
        self._text = _make(_TEXT, compiled.get("text"))

    def uses(self, root: str) -> bool:
        """Whether it needs values of this root, such as `event` or `contact.phone`."""
        return any(path == root or path.startswith(root + ".") for path in self.variables)

    def known(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values that the template can use: with them it renders the same content again."""
        known: dict[str, Any] = {}
        for root, *key in self._paths:
            values = context[root]
            if not key:  # sorted: it comes before single values of the same root
                known[root] = dict(values)
            elif key[0] in values:
                known.setdefault(root, {})[key[0]] = values[key[0]]
        return known

    def render(self, context: Mapping[str, Any]) -> Rendered:
        """The letter for one contact.

        Args:
            context: what `Links.context` and `scopes` give.

        Raises:
            MissingValue: it needs a value that is not there.
            TemplateError, ArithmeticError, LookupError, TypeError, ValueError: the values do not fit what it does.
        """
        if self.call is not None:
            made = webhook.fill(self.call, context)
            return Rendered(f"{made.method} {made.url}", "", made.body.decode(), made)
        subject = " ".join(_CONTROL.sub(" ", _fill(self._subject, context)).split())
        plain = _GAPS.sub("\n\n", _CONTROL.sub("", _fill(self._text, context))).strip()
        invite = {field: _fill(template, context) for field, template in self._invite.items()}
        return Rendered(subject, _fill(self._html, context), plain, invite=invite or None)


def render(compiled: Compiled, context: Mapping[str, Any]) -> Rendered | Skip:
    """The letter, or why there is none. The reason names the value or the error, never the contact's data."""
    try:
        return compiled.render(context)
    except MissingValue as error:
        return Skip(Reason.MISSING_VALUE, str(error))
    except Unfilled as error:
        word, _, detail = str(error).partition(": ")
        return Skip(Reason.MISSING_VALUE if word == "missing value" else Reason.CANNOT_RENDER, detail)
    except RENDER_ERRORS as error:
        return Skip(Reason.CANNOT_RENDER, type(error).__name__)


def _make(environment: Sandbox, source: str | None) -> Template | None:
    return environment.from_string(source) if source else None


def _fill(template: Template | None, context: Mapping[str, Any]) -> str:
    return template.render(context) if template else ""


def scopes(contact: Mapping[str, Any], event: Mapping[str, Any], journey: Mapping[str, Any]) -> dict[str, Any]:
    """The roots of a template's context. Nulls count as missing."""
    return {"contact": Scope("contact", contact), "event": Scope("event", event), "journey": Scope("journey", journey)}


_PAGES = {"preferences_url": ("p", "preferences"), "view_url": ("v", "view"), "confirm_url": ("s", "confirm")}
"""The pages that only some letters link to: where they are, and what their tokens are for."""


class Links:
    """Makes the signed addresses that stand in letters."""

    def __init__(self, settings: Settings) -> None:
        self._signers = Signers(settings)
        self._base = settings.public_url

    def context(
        self, message_id: UUID, created_at: datetime, variables: Collection[str] = tuple(_PAGES)
    ) -> dict[str, Any]:
        """The links of one message, for the template's context: about 10 microseconds.

        Args:
            message_id: whose.
            created_at: when its row was made.
            variables: what the template uses; pages that it does not link to get no link, each saves 3 microseconds.
        """
        row = row_bytes(message_id, created_at)
        pages = {
            name: f"{self._base}/{path}/{getattr(self._signers, use).sign_row(row)}"
            for name, (path, use) in _PAGES.items()
            if name in variables
        }
        return {
            **pages,
            "unsubscribe_url": f"{self._base}/u/{self._signers.unsubscribe.sign_row(row)}",
            "_pixel": f"{self._base}/t/o/{self._signers.open.sign_row(row)}.gif",
            "_track": self._tracker(row),
            "_trap": f"{self._base}/t/c/{self._signers.click.sign_row(row)}",
        }

    def _tracker(self, row: bytes) -> Callable[[str], str]:
        sign, base = self._signers.click.sign_row, self._base
        return lambda address: f"{base}/t/c/{sign(row, address)}"


class TemplateCache:
    """The compiled versions that a process used lately; a version never changes, so nothing goes stale."""

    def __init__(self) -> None:
        self._versions: OrderedDict[int, Compiled] = OrderedDict()
        self._notices: OrderedDict[tuple[int, int], Compiled] = OrderedDict()

    async def get(self, connection: AsyncConnection, version_id: int) -> Compiled:
        """The version, from memory or the database."""
        found = self._versions.get(version_id)
        if found is None:
            row = await connection.execute(
                text("select compiled from template_version where id = :id"), {"id": version_id}
            )
            compiled = row.scalar_one_or_none()
            if compiled is None:
                raise NotFound(f"there is no template version {version_id}")
            found = self._versions[version_id] = Compiled(compiled)
            if len(self._versions) > CACHED_VERSIONS:
                self._versions.popitem(last=False)
        self._versions.move_to_end(version_id)
        return found

    async def notice(self, connection: AsyncConnection, version_id: int, step: int) -> Compiled:
        """The letter to the staff that stands in a step of a journey's version, from memory or the database."""
        key = (version_id, step)
        if key not in self._notices:
            row = await connection.execute(
                text("select plan #> array['steps', cast(:step as text)] from journey_version where id = :id"),
                {"step": str(step), "id": version_id},
            )
            written = row.scalar_one_or_none()
            if written is None:
                raise NotFound(f"there is no step {step} in the journey version {version_id}")
            self._notices[key] = from_texts({"subject": written["subject"], "text": written["text"]})
            if len(self._notices) > CACHED_VERSIONS:
                self._notices.popitem(last=False)
        return self._notices[key]


def from_texts(parts: Mapping[str, str]) -> Compiled:
    """A template made of plain texts (`subject`, `text`) that stand in a journey."""
    found: set[str] = set()
    for part in parts.values():
        found |= {use.path for use in analyse(_TEXT, part, "", 1)[0]}
    return Compiled({**parts, "variables": sorted(found)})


def environment(html: bool) -> Sandbox:
    """The sandbox of HTML parts (escaping) or of subjects and text parts."""
    return _HTML if html else _TEXT
