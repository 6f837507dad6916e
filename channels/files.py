"""What goes with letters besides their text: files and pictures of the template, and invitations of a calendar."""

import mimetypes
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from icalendar import Calendar, Event, vCalAddress, vText

from channels.provider import Attachment
from core.documents import Document
from core.errors import InvalidInput, Problem

BYTES_LIMIT = 5_000_000
"""Of all files of a template together; they go with every letter."""
COUNT_LIMIT = 20
INVITE_FIELDS = ("summary", "start", "end", "location", "description", "organizer")
_NAME = re.compile(r"[^/\\\x00-\x1f]{1,200}")
_CID = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a template names: beside it, by its own name."""

    name: str
    content_id: str | None


def named(document: Document, problems: list[Problem]) -> tuple[Named, ...]:
    """The files in `attach` of a template: names, or `{picture: NAME}` for one that the HTML shows as `cid:NAME`."""
    given = document.data.get("attach")
    entries = given if isinstance(given, list) else [given] if given is not None else []
    found = []
    for index, entry in enumerate(entries[: COUNT_LIMIT + 1]):
        inline = isinstance(entry, dict) and list(entry) == ["picture"]
        name = entry["picture"] if inline else entry
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("."):
            mend = "write the name of a file beside the template, or {picture: logo.png}"
            problems.append(document.problem(("attach", index), "this is no file", mend))
        elif inline and not _CID.fullmatch(name):
            mend = "use a-z, 0-9, dots and hyphens"
            problems.append(document.problem(("attach", index), "the name cannot stand behind cid:", mend))
        else:
            found.append(Named(name, name if inline else None))
    if len(entries) > COUNT_LIMIT:
        problems.append(document.problem(("attach",), f"more than {COUNT_LIMIT} files", "link to them"))
    return tuple(found)


def packed(names: Sequence[Named], contents: Mapping[str, bytes], file: str) -> list[dict[str, Any]]:
    """The files as they are kept with a template's version.

    Raises:
        InvalidInput: one is missing, or they are too big.
    """
    missing = [one.name for one in names if one.name not in contents]
    if missing:
        mend = "put it beside the template, and publish with `kaskad template publish`"
        raise InvalidInput(*(Problem(f"there is no file {name}", mend, file) for name in missing))
    size = sum(len(contents[one.name]) for one in names)
    if size > BYTES_LIMIT:
        raise InvalidInput(Problem(f"the files have {size:,} bytes", f"at most {BYTES_LIMIT:,}; link to them", file))
    return [
        {
            "name": one.name,
            "type": mimetypes.guess_type(one.name)[0] or "application/octet-stream",
            "cid": one.content_id,
            "content": b64encode(contents[one.name]).decode(),
        }
        for one in names
    ]


def beside(file: Path, names: Sequence[Named]) -> dict[str, bytes]:
    """The contents of files in a template's folder; those that are not there are left out. Reads no more than
    BYTES_LIMIT of each."""
    found = {}
    for one in names:
        path = file.parent / one.name
        if path.is_file():
            with path.open("rb") as stream:
                found[one.name] = stream.read(BYTES_LIMIT + 1)
    return found


def unpacked(kept: Sequence[Mapping[str, Any]]) -> tuple[Attachment, ...]:
    """The files of a template's version."""
    return tuple(Attachment(one["name"], one["type"], b64decode(one["content"]), one["cid"]) for one in kept)


def invitation(message_id: UUID, said: Mapping[str, str], sender: str, recipient: str, at: datetime) -> Attachment:
    """A request of a calendar (RFC 5546), which mail programs show with buttons.

    Args:
        message_id: makes the event's UID, so that a letter that comes twice is one event.
        said: INVITE_FIELDS, filled; `start` and `end` in ISO 8601, UTC where they name no zone; an hour without `end`.
        sender: whose address invites, if no organizer is said.
        recipient: who is invited.
        at: when it was written.

    Raises:
        InvalidInput: a time cannot be read, or the end lies before the start.
    """
    start = _time(said.get("start", ""), "start")
    end = _time(said["end"], "end") if said.get("end") else start + timedelta(hours=1)
    if end < start:
        raise InvalidInput("the invitation ends before it begins")
    event = Event()
    event.add("uid", f"{message_id}@kaskad")
    event.add("dtstamp", at.astimezone(UTC).replace(microsecond=0))
    event.add("dtstart", start)
    event.add("dtend", end)
    for field in ("summary", "location", "description"):
        if said.get(field):
            event.add(field, vText(said[field]))
    event.add("organizer", vCalAddress(f"mailto:{_bare(said.get('organizer') or sender)}"))
    guest = vCalAddress(f"mailto:{recipient}")
    guest.params["RSVP"] = vText("TRUE")
    event.add("attendee", guest)
    calendar = Calendar()
    calendar.add("prodid", "-//Kaskad//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "REQUEST")
    calendar.add_component(event)
    return Attachment("invite.ics", "text/calendar; method=REQUEST; charset=utf-8", calendar.to_ical())


def _time(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(f"the invitation's {field} is no time such as 2026-12-01T10:00+03:00") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _bare(address: str) -> str:
    return address.rpartition("<")[2].rstrip("> ").strip()


def invited(document: Document, problems: list[Problem]) -> dict[str, str]:
    """The texts of `invite` in a template: INVITE_FIELDS, each a text that may hold tags."""
    given = document.data.get("invite")
    if given is None:
        return {}
    if not isinstance(given, dict) or not {"summary", "start"} <= set(given) or set(given) - set(INVITE_FIELDS):
        mend = f"write summary, start and perhaps {', '.join(INVITE_FIELDS[2:])}"
        problems.append(document.problem(("invite",), "this is no invitation", mend))
        return {}
    wrong = [key for key, value in given.items() if not isinstance(value, str) or not value.strip()]
    problems += [document.problem(("invite", key), f"{key} must be text", "put it in quotes") for key in wrong]
    return {key: given[key] for key in INVITE_FIELDS if key in given and key not in wrong}
