"""Every setting of an installation, read from `KASKAD_*` environment variables."""

import os
import secrets
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data() -> Path:
    """Root's installation is the machine's; anyone else's belongs to the folder they stand in."""
    return Path("/var/lib/kaskad") if os.geteuid() == 0 else Path(".kaskad")


class Settings(BaseSettings):
    """One typed object; a wrong value is refused when the process starts, naming the variable."""

    model_config = SettingsConfigDict(env_prefix="KASKAD_", extra="ignore", frozen=True)

    data: Path = Field(default_factory=_default_data, description="Folder with all state of an installation.")
    demo: bool = Field(False, description="Demo mode: mail is caught by the built-in mailbox.")
    secret_key: SecretStr | None = Field(
        None,
        description="Signs links and encrypts provider secrets; made and kept in the data folder if unset.",
    )

    database: str | None = Field(None, description="postgresql://… of an external server; embedded if unset.")
    database_pool: int = Field(10, ge=1, le=200, description="Connections a process may hold.")

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

    log_level: str = "info"
    log_json: bool | None = Field(None, description="JSON logs; by default when not on a terminal.")
    sentry_dsn: SecretStr | None = None

    event_retention_months: int = Field(24, ge=1)
    message_retention_months: int = Field(36, ge=1)
    event_dedupe_days: int = Field(7, ge=1, description="How long an event id is remembered.")
    event_future_seconds: int = Field(300, ge=0, description="How far ahead of our clock an event may be.")
    event_batch_limit: int = Field(1000, ge=1)
    event_properties_limit: int = Field(200, ge=1, description="Properties an event may carry.")
    event_bytes_limit: int = Field(32_768, ge=256, description="Bytes of one event's properties.")
    event_depth_limit: int = Field(5, ge=1, le=50, description="Levels of objects and lists in an event's properties.")
    event_names_limit: int = Field(2000, ge=1, description="Distinct event names an installation may have.")
    event_queue_limit: int = Field(20_000, ge=1, description="Events an API process holds that wait to be written.")
    request_bytes_limit: int = Field(5_000_000, ge=1024, description="Bytes of one request body.")

    phone_region: str = Field("RU", pattern="^[A-Z]{2}$", description="Country (ISO 3166) of phones without +.")
    contact_batch_limit: int = Field(1000, ge=1, description="Contacts in one request.")
    contact_attributes_limit: int = Field(200, ge=1, description="Attributes a contact may carry.")
    contact_bytes_limit: int = Field(32_768, ge=256, description="Bytes of one contact's attributes.")
    contact_tags_limit: int = Field(200, ge=1, description="Tags a contact may carry.")
    import_bytes_limit: int = Field(100_000_000, ge=1024, description="Bytes of one file imported over the API.")

    call_private: bool = Field(False, description="Whether journeys may call addresses of private networks.")

    entry_window_ms: int = Field(250, ge=0, le=60_000, description="Entries this close together travel together.")
    cohort_size: int = Field(1000, ge=1, le=5000)
    cohort_open_seconds: int = Field(3600, ge=1)

    @cached_property
    def secret(self) -> bytes:
        """The installation's secret key; made on first use and kept with mode 0600 in the data folder."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        path = self.data / "secret.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode())
        return path.read_bytes()

    @property
    def public_url(self) -> str:
        """The address people outside reach us at, without a slash at its end."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")
