"""The Jinja2 sandbox that templates run in, and what happens when a value is missing.

A missing value is false in a test and may have a default; written out, it stops the letter (`MissingValue`), so nobody
is greeted with a gap. JSON null counts as missing. Attributes of contacts and properties of events are looked up as
data only, so an attribute called `items` is that attribute.
"""

from collections.abc import Mapping
from datetime import date, datetime
from html import unescape
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import missing
from markupsafe import Markup

REPEAT_LIMIT = 10_000
RENDER_ERRORS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a template may raise besides MissingValue."""


class MissingValue(Exception):
    """The letter needs a value that is not there; the message is its path, such as contact.first_name."""


class Scope(dict[str, Any]):
    """The values under one root of a template's context."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.name = name


class _Missing(Undefined):
    """False in tests, equal to nothing, and fatal when written out or worked with."""

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = MissingValue
    ) -> None:
        super().__init__(hint, obj, name, MissingValue)  # type: ignore[arg-type]  # any exception does

    @property
    def _undefined_message(self) -> str:
        owner, name = self._undefined_obj, str(self._undefined_name)
        return f"{owner.name}.{name}" if type(owner) is Scope else name

    __str__ = __iter__ = __len__ = __contains__ = Undefined._fail_with_undefined_error


class Sandbox(ImmutableSandboxedEnvironment):
    """Templates see values, tests and filters; no Python."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=_Missing, keep_trailing_newline=False, cache_size=0)
        self.globals = {"range": safe_range}
        self.filters["date"] = _date
        self.filters["track"] = _track

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: keys of mappings come first, and are all there is of a Scope."""
        if isinstance(obj, dict):
            value = obj.get(attribute)
            if value is not None:
                return value
            if type(obj) is Scope or attribute in obj:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`, with null as missing."""
        if type(obj) is Scope:
            return self.getattr(obj, str(argument))
        value = super().getitem(obj, argument)
        return self.undefined(obj=obj, name=str(argument)) if value is None else value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiplication and powers, kept small: `'a' * 10**9` would take the worker's memory."""
        sequences = [x for x in (left, right) if isinstance(x, (str, bytes, list, tuple))]
        if sequences and any(isinstance(x, int) and x * len(sequences[0]) > REPEAT_LIMIT for x in (left, right)):
            raise SecurityError("repeated too often")
        if operator == "**" and not (abs(left) <= REPEAT_LIMIT and abs(right) <= 64):
            raise SecurityError("power too large")
        return super().call_binop(context, operator, left, right)


def _date(value: Any, form: str = "%Y-%m-%d") -> str:
    """An ISO 8601 date or time in another form, such as `%d.%m.%Y`."""
    if isinstance(value, Undefined):
        str(value)
    if isinstance(value, str):
        text = value.replace("Z", "+00:00")
        value = datetime.fromisoformat(text) if len(text) > 10 else date.fromisoformat(text)
    return str(value.strftime(form))


_SAFE_SCHEMES = ("mailto:", "tel:", "sms:", "#")


@pass_context
def _track(context: Context, address: str) -> str:
    """The tracked form of a link's address, as HTML; what is no http(s) address is not tracked."""
    plain = unescape(address).strip()
    lower = plain.lower()
    if lower.startswith(("http://", "https://")):
        track = context.get("_track")
        return Markup(track(plain)) if track else Markup(address)  # noqa: S704  a signed URL, or escaped already
    if lower.startswith(_SAFE_SCHEMES):
        return Markup(address)  # noqa: S704  escaped when it was written
    return "#"
