"""Every setting of an installation, read from `KASKAD_*` environment variables."""

import ipaddress
import os
import re
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.files import kept

SECRET_BYTES = 16
"""A secret key that is shorter could be guessed from one link."""


def _default_data() -> Path:
    """Root's installation is the machine's; anyone else's belongs to the folder they stand in."""
    return Path("/var/lib/kaskad") if os.geteuid() == 0 else Path(".kaskad")


def _check_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:60]}: name one like Europe/Moscow") from None


class Settings(BaseSettings):
    """One typed object; a wrong value is refused when the process starts, naming the variable."""

    model_config = SettingsConfigDict(env_prefix="KASKAD_", extra="ignore", frozen=True, hide_input_in_errors=True)

    data: Path = Field(default_factory=_default_data, description="Folder with all state of an installation.")
    time_zone: Annotated[str, AfterValidator(_check_zone)] = Field(
        "UTC", description="Whose today it is in criteria, where a contact's own zone is not known: an IANA name."
    )
    demo: bool = Field(False, description="Demo mode: mail is caught by the built-in mailbox.")
    secret_key: SecretStr | None = Field(
        None,
        description="Signs links and encrypts provider secrets; made and kept in the data folder if unset.",
    )

    database: str | None = Field(None, description="postgresql://… of an external server; embedded if unset.")
    database_pool: int = Field(
        10, ge=1, le=200, description="Connections in a process's pool; an API holds 2 beside it."
    )

    postgres_user: str | None = Field(
        None, description="System user of the embedded PostgreSQL when root runs Kaskad; `kaskad` if unset."
    )

    temporal: str | None = Field(None, description="host:port of an external Temporal; embedded if unset.")
    temporal_namespace: str = "default"
    temporal_tls: bool = False
    temporal_tls_ca: Path | None = None
    temporal_tls_cert: Path | None = None
    temporal_tls_key: Path | None = None
    temporal_api_key: SecretStr | None = None

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535, description="Port of the API and the pages; 0 takes a free one.")
    base_url: str | None = Field(None, description="Public address used in letters; http://host:port if unset.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Metrics of the worker and router; 0 is off.")

    email: SecretStr | None = Field(None, description="smtp+starttls://user:password@host:port of the default sender.")
    email_from: str = Field("Kaskad <kaskad@localhost>", description="Sender of letters that name none.")

    inbound_address: str | None = Field(
        None,
        description="Where bounces and replies come to: a domain of Kaskad's own, or a mailbox with a tail, hello+@….",
    )
    inbound_host: str = "127.0.0.1"
    inbound_port: int = Field(0, ge=0, le=65535, description="Port where workers take mail by SMTP; 0 is off.")
    inbound_tls_cert: Path | None = Field(None, description="PEM of the SMTP server, for STARTTLS.")
    inbound_tls_key: Path | None = None
    inbound_bytes_limit: int = Field(10_000_000, ge=10_000, description="Bytes of one letter that comes in.")
    inbound_mailbox: SecretStr | None = Field(
        None, description="imaps://user:password@host/FOLDER or pop3s://… that is read for bounces and replies."
    )
    inbound_mailbox_seconds: float = Field(60, gt=0, le=86_400, description="Between two looks into it.")
    soft_bounces: int = Field(5, ge=1, description="Soft bounces after which an address is suppressed.")
    soft_bounce_days: int = Field(30, ge=1, le=365, description="Days within which they count.")

    log_level: str = "info"
    log_json: bool | None = Field(None, description="JSON logs; by default when not on a terminal.")
    sentry_dsn: SecretStr | None = None

    event_retention_months: int = Field(24, ge=1)
    message_retention_months: int = Field(36, ge=1)
    content_days: int = Field(
        90,
        ge=0,
        description="How long the content of messages can be shown, at least; dropped by months. 0 keeps none.",
    )
    hook_days: int = Field(14, ge=1, description="How long webhooks of providers are kept as they came.")
    confirmation_days: int = Field(7, ge=1, le=90, description="How long a consent waits for its confirmation.")
    event_dedupe_days: int = Field(7, ge=1, description="How long an event id is remembered.")
    event_future_seconds: int = Field(300, ge=0, description="How far ahead of our clock an event may be.")
    event_batch_limit: int = Field(1000, ge=1)
    event_properties_limit: int = Field(200, ge=1, description="Properties an event may carry.")
    event_bytes_limit: int = Field(32_768, ge=256, description="Bytes of one event's properties.")
    event_depth_limit: int = Field(5, ge=1, le=50, description="Levels of objects and lists in an event's properties.")
    event_names_limit: int = Field(2000, ge=1, description="Distinct event names an installation may have.")
    event_queue_limit: int = Field(20_000, ge=1, description="Events an API process holds that wait to be written.")
    request_bytes_limit: int = Field(5_000_000, ge=1024, description="Bytes of one request body.")

    trusted_proxies: str = Field(
        "",
        description="Networks of proxies whose X-Forwarded-For is believed, as in 127.0.0.1,10.0.0.0/8; none if empty.",
    )
    geoip: Path | None = Field(None, description="A MaxMind database file (.mmdb) of cities or countries.")
    hit_bytes_limit: int = Field(65_536, ge=1024, description="Bytes of one request of the site snippet.")
    hit_key_rate: float = Field(5000, gt=0, description="Hits a second that a process takes for one write key.")
    hit_address_rate: float = Field(50, gt=0, description="Hits a second that a process takes from one address.")
    hit_burst_seconds: float = Field(20, ge=1, description="How many seconds' worth of hits may come at once.")
    hit_addresses_remembered: int = Field(100_000, ge=100, description="Addresses whose rate a process knows.")
    session_gap_seconds: int = Field(1800, ge=60, description="The longest silence within a session.")

    phone_region: str = Field("RU", pattern="^[A-Z]{2}$", description="Country (ISO 3166) of phones without +.")
    identity_email: Literal["conflict", "merge"] = Field(
        "conflict", description="What an email that belongs to another known contact does when somebody is identified."
    )
    identity_phone: Literal["conflict", "merge"] = Field("conflict", description="The same for a phone number.")
    contact_batch_limit: int = Field(1000, ge=1, description="Contacts in one request.")
    contact_attributes_limit: int = Field(200, ge=1, description="Attributes a contact may carry.")
    contact_bytes_limit: int = Field(32_768, ge=256, description="Bytes of one contact's attributes.")
    contact_tags_limit: int = Field(200, ge=1, description="Tags a contact may carry.")
    workbook_bytes_limit: int = Field(
        268_435_456, ge=65_536, description="Bytes that a spreadsheet may unpack to; it is read as a whole."
    )
    import_bytes_limit: int = Field(100_000_000, ge=1024, description="Bytes of one file imported over the API.")

    report_days_limit: int = Field(1100, ge=1, description="Days that the period of a report may have.")
    report_rows_limit: int = Field(10_000, ge=1, description="Rows that a report may have.")
    segment_seconds: int = Field(
        60, ge=1, le=3600, description="How long the database may take for one question of the API about a segment."
    )
    report_seconds: int = Field(30, ge=1, le=600, description="How long the database may count for a report.")

    call_private: bool = Field(False, description="Whether journeys may call addresses of private networks.")

    entry_window_ms: int = Field(250, ge=0, le=60_000, description="Entries this close together travel together.")
    cohort_size: int = Field(2000, ge=1, le=5000)
    cohort_open_seconds: int = Field(3600, ge=1)

    @field_validator("secret_key")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < SECRET_BYTES:
            raise ValueError(f"write a random text of {SECRET_BYTES} bytes or more: openssl rand -base64 36")
        return value

    @field_validator("temporal")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^/\s]+:\d{1,5}", value):
            raise ValueError("write host:port, such as temporal.internal:7233, without https://")
        return value

    @field_validator("inbound_address")
    @classmethod
    def _is_a_place_for_mail(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(
            r"(?:[A-Za-z0-9._-]{0,18}[+=-]@)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value
        ):
            raise ValueError(
                "write a domain, in.example.com, or a mailbox with a tail of at most 19, hello+@example.com"
            )
        return value.lower() if value else None

    @field_validator("database")
    @classmethod
    def _is_a_database(cls, value: str | None) -> str | None:
        """Refuse what could not be a PostgreSQL URL; the message never quotes it, since it holds a password."""
        if value is None:
            return None
        from psycopg import ProgrammingError  # noqa: PLC0415 - they cost every command a fifth of a second
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415
        from sqlalchemy.engine import make_url  # noqa: PLC0415
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            url = None
        if url is None or url.get_backend_name() not in {"postgresql", "postgres"}:
            raise ValueError("write postgresql://user:password@host:port/name, with / : @ % # ? of a password as %XX")
        try:
            make_conninfo(**{name: str(given) for name, given in url.query.items()})
        except ProgrammingError as error:
            raise ValueError(str(error).strip()) from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for one in value.split(","):
            if one.strip():
                ipaddress.ip_network(one.strip(), strict=False)
        return value

    @cached_property
    def secret(self) -> bytes:
        """The installation's secret key; made on first use and kept with mode 0600 in the data folder.

        Raises:
            Misconfigured: the file is empty or cut short.
        """
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        return kept(self.data / "secret.key", lambda: secrets.token_urlsafe(48).encode(), SECRET_BYTES)

    @property
    def public_url(self) -> str:
        """The address people outside reach us at, without a slash at its end."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")
