"""The URL of a provider with an HTTP API, as it was added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from core.addresses import is_loopback
from core.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True)
class VendorUrl:
    """`SCHEME://USER:SECRET@HOST/PATH?option=value`, as a provider was added."""

    scheme: str
    user: str
    secret: str = field(repr=False)
    host: str
    path: str
    base: str
    """Where its API is: https, or plain HTTP to this machine (`tls=no`, for tests)."""
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str, host: str, options: Mapping[str, str]) -> "VendorUrl":
        """Read a URL.

        Args:
            url: as it was added; `SCHEME://KEY@` is enough where the vendor has one host.
            host: the vendor's, where the URL names none.
            options: those it takes, with what they mean.

        Raises:
            InvalidInput: it cannot be used; secrets are not shown.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the provider's URL cannot be read: {error}") from None
        known = {**options, "connections": "calls at a time", "timeout": "seconds", "tls": "no: plain, to this machine"}
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(given) - set(known)):
            there_are = ", ".join(f"{name} ({words})" for name, words in known.items())
            raise InvalidInput(
                Problem(f"{', '.join(unknown)}: no option of {parts.scheme}://", f"there are {there_are}")
            )
        if not parts.username and not parts.password:
            raise InvalidInput(Problem(f"{parts.scheme}:// needs a key", f"{parts.scheme}://KEY@{host}"))
        where = parts.hostname or host
        plain = given.get("tls") == "no"
        if plain and not is_loopback(where):
            raise InvalidInput("the key would travel unencrypted: tls=no is for this machine only")
        made = cls(
            parts.scheme,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            where,
            unquote(parts.path.strip("/")),
            f"{'http' if plain else 'https'}://{where}{f':{port}' if port else ''}",
            given,
        )
        made.number("connections", 10)
        made.number("timeout", 30)
        return made

    @property
    def key(self) -> str:
        """The API key, wherever it stands."""
        return self.secret or self.user

    def number(self, name: str, default: float) -> float:
        """A positive number among the options; raises InvalidInput."""
        try:
            value = float(self.options.get(name, default))
        except ValueError:
            value = 0.0
        if not 0 < value <= 1000:
            raise InvalidInput(f"{name} is a number above 0, at most 1000")
        return value
