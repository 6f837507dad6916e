"""What is written on elements, for people; and times in the words of ISO 8601."""

import json
import re
from datetime import timedelta
from typing import Any

from segments import words

_LABEL_LIMIT = 45
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ISO = re.compile(
    r"P(?:(?P<w>[0-9]{1,9})W|(?:(?P<d>[0-9]{1,9})D)?"
    r"(?:T(?:(?P<h>[0-9]{1,9})H)?(?:(?P<m>[0-9]{1,9})M)?(?:(?P<s>[0-9]{1,9})S)?)?)"
)


def clean(text: str) -> str:
    """A text on one line, without characters that XML cannot hold."""
    return " ".join(_NOT_XML.sub("\ufffd", text).split())


def short(text: str) -> str:
    """A text for a label: on one line, and not too long."""
    tidy = clean(text)
    return tidy if len(tidy) <= _LABEL_LIMIT else tidy[: _LABEL_LIMIT - 1].rstrip() + "…"


def words_of(data: Any) -> str:
    """Data of a journey in a line: `contact.age: gte: 18, contact.tags: vip`."""
    if isinstance(data, dict):
        return ", ".join(f"{key}: {words_of(value)}" for key, value in data.items())
    if isinstance(data, list):
        return "[" + ", ".join(words_of(one) for one in data) + "]"
    return json.dumps(data) if data is None or isinstance(data, bool) else str(data)


def as_json(data: Any) -> str:
    """Data of a journey on one line of JSON that XML can hold."""
    text = json.dumps(data, ensure_ascii=False)
    return _NOT_XML.sub(lambda match: json.dumps(match[0])[1:-1], text)


def iso_duration(text: str) -> str | None:
    """A length of time such as `1d 12h` as an ISO 8601 duration; None if it is another kind of time."""
    length = words.duration(" ".join(text.split()))
    if length is None:
        return None
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "H"), (minutes, "M"), (seconds, "S"))
    clock = "".join(f"{number}{unit}" for number, unit in parts if number)
    days = f"{length.days}D" if length.days else ""
    return f"P{days}" + (f"T{clock}" if clock else "") if days or clock else "PT0S"


def duration_of(iso: str) -> str | None:
    """An ISO 8601 duration in the words of the language; None if it is not one, or has years or months."""
    match = _ISO.fullmatch(iso.strip())
    if match is None or not any(match.groupdict().values()):
        return None
    found = [f"{int(number)}{unit}" for unit, number in match.groupdict().items() if number and int(number)]
    return " ".join(found) or "0s"


def same_time(ours: str, iso: str) -> bool:
    """Whether a length of time as written lasts as long as an ISO 8601 duration."""
    other = duration_of(iso)
    return other is not None and _length(ours) == _length(other)


def _length(text: str) -> timedelta | None:
    return words.duration(" ".join(text.split()))
