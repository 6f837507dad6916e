"""What an SMTP provider's URL says.

    smtp://HOST:PORT                          unencrypted, port 25
    smtp+starttls://USER:PASSWORD@HOST:PORT   encrypted after STARTTLS, which must be offered; port 587
    smtps://USER:PASSWORD@HOST:PORT           encrypted from the first byte; port 465

Options follow as a query: `?connections=20&timeout=30`; `dkim_key` may be given more than once.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from channels.email.dkim import DkimSettings, Signer
from core.addresses import is_loopback
from core.errors import InvalidInput, Misconfigured, Problem

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class Options(BaseModel):
    """The query part of the URL. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(20, ge=1, le=500, description="Connections held open at most, per worker process.")
    timeout: float = Field(60, gt=0, le=600, description="For connecting and for each reply but the last.")
    answer: float = Field(300, gt=0, le=900, description="For the word on a letter, after its end (RFC 5321: 600).")
    letters_per_connection: int = Field(500, ge=1, description="Then the connection is closed.")
    idle: float = Field(30, gt=0, le=3600, description="An unused connection is closed after this.")
    verify: Literal["yes", "no"] = Field("yes", description="Whether the server's certificate is checked.")
    ca: Path | None = Field(None, description="File with the authorities to trust instead of the system's.")
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9.\[\]:-]+$", description="What we call ourselves in EHLO.")
    return_path: str | None = Field(
        None, description="Envelope sender, where bounces go; the letter's sender if unset."
    )
    plain_password: Literal["yes", "no"] = Field("no", description="Whether a password may go unencrypted.")
    dkim_domain: str | None = Field(None, description="Sign letters for this domain; needs dkim_key.")
    dkim_key: tuple[str, ...] = Field((), description="SELECTOR:FILE or SELECTOR:PEM, for each key.")


_REPEATED = frozenset({"dkim_key"})


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where to connect, how, as whom."""

    scheme: str
    host: str
    port: int
    user: str
    password: SecretStr
    options: Options

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a provider's URL.

        Raises:
            InvalidInput: it cannot be used; the message names the part and never shows the password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the SMTP URL cannot be read: {error}") from None
        if parts.scheme not in _PORTS:
            raise InvalidInput(f"an SMTP URL begins with one of {', '.join(_PORTS)}")
        if not parts.hostname:
            raise InvalidInput(f"the SMTP URL names no server: {parts.scheme}://HOST:PORT")
        made = cls(
            parts.scheme,
            parts.hostname,
            port or _PORTS[parts.scheme],
            unquote(parts.username or ""),
            SecretStr(unquote(parts.password or "")),
            _options(parts.query),
        )
        made._refuse_naked_password()
        return made

    def _refuse_naked_password(self) -> None:
        allowed = self.options.plain_password == "yes" or is_loopback(self.host)  # noqa: S105 - a word
        if self.user and self.scheme == "smtp" and not allowed:
            raise InvalidInput(
                "the password would travel unencrypted: use smtp+starttls:// or smtps://, "
                "or add plain_password=yes if the network is yours"
            )

    def tls(self) -> ssl.SSLContext:
        """The rules of encryption: TLS 1.2 or later, the certificate checked unless `verify=no`.

        Raises:
            Misconfigured: the file of `ca` cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.options.ca)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"ca={self.options.ca} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.options.verify == "no":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def signer(self, folder: Path) -> Signer | None:
        """What signs the letters, if DKIM was asked for; relative key files lie in `folder`.

        Raises:
            InvalidInput: the options contradict each other.
            Misconfigured: a key cannot be used.
        """
        domain, given = self.options.dkim_domain, self.options.dkim_key
        if domain is None and not given:
            return None
        return Signer.of(DkimSettings.checked(domain, [_dkim_key(text, folder) for text in given]))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _dkim_key(text: str, folder: Path) -> dict[str, Any]:
    selector, _, value = text.partition(":")
    if value.lstrip().startswith("-----BEGIN"):
        return {"selector": selector, "pem": value}
    return {"selector": selector, "file": folder / value}


def _options(query: str) -> Options:
    given: dict[str, str | list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _REPEATED:
            given[name] = [*given.get(name, []), value]
        else:
            given[name] = value
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        known = f"known options are {', '.join(Options.model_fields)}"
        problems = error.errors(include_input=False)
        raise InvalidInput(
            *[Problem(problem["msg"], known, path=f"SMTP URL, {problem['loc'][0]}") for problem in problems]
        ) from None
