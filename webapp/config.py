"""Settings: read once from the environment, typed, and refused as a whole when one is wrong.

Every setting may also be given as a file (`NAME_FILE`), as container platforms hand out secrets.
`docs/settings.md` documents each one; a test keeps that page complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from webapp.domain.policy import Deadlines

ROOT = Path(__file__).resolve().parent.parent
MIN_SECRET_LENGTH = 16

Secret = Annotated[SecretStr, Field(min_length=MIN_SECRET_LENGTH)]
Seconds = Annotated[int, Field(ge=1)]
Rate = Annotated[int, Field(ge=0)]
Days = Annotated[int, Field(ge=0, le=36_500)]


class InvalidSettings(Exception):
    """One or more settings are missing or wrong."""


class Settings(BaseModel):
    """All settings. The field's name in upper case is the name of the environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Where the parts are
    environment: Literal["development", "production"] = "production"
    database_url: SecretStr
    public_url: str = "http://127.0.0.1:8000"
    internal_url: str = "http://127.0.0.1:8001"
    n8n_url: str = "http://127.0.0.1:5678"
    openai_base_url: str = "https://api.openai.com/v1"
    storage_dir: Path | None = None
    storage_container_url: str | None = None
    storage_connection_string: SecretStr | None = None
    storage_container: str = "documents"
    profiles_dir: Path = ROOT / "profiles"
    prices_file: Path = ROOT / "prices.json"
    price_overrides_file: Path | None = None
    time_zone: str = "UTC"

    # Secrets
    secret_key: Secret
    secret_key_previous: Secret | None = None
    internal_token: Secret
    internal_token_previous: Secret | None = None
    n8n_webhook_token: Secret
    openai_api_key: SecretStr | None = None

    # How the app's own calls show the provider who they are
    openai_auth: Literal["key", "entra"] = "key"

    # Who may come in
    registration: Literal["open", "closed"] = "closed"
    session_idle_minutes: Annotated[int, Field(ge=1)] = 720
    session_hours: Annotated[int, Field(ge=1)] = 168

    # Which model answers; Azure wants a deployment for each mode
    sync_model: str = "gpt-6-luna"
    batch_model: str = "gpt-6-luna"

    # Limits
    max_upload_mb: Annotated[int, Field(ge=1, le=512)] = 20
    max_pages: Annotated[int, Field(ge=1)] = 500
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    pdf_seconds: Seconds = 30
    pdf_memory_mb: Annotated[int, Field(ge=128)] = 512
    sign_ins_per_minute: Rate = 30
    registrations_per_hour: Rate = 20
    uploads_per_minute: Rate = 240
    estimates_per_minute: Rate = 120
    api_calls_per_minute: Rate = 1200
    database_pool_size: Annotated[int, Field(ge=1)] = 8

    # Sync runs
    max_sync_in_flight: Annotated[int, Field(ge=1)] = 32
    max_attempts: Annotated[int, Field(ge=1)] = 3
    attempt_lease_seconds: Seconds = 360
    sync_deadline_seconds: Seconds = 1200
    dispatch_backoff_seconds: Seconds = 15

    # Batch windows
    max_batch_size: Annotated[int, Field(ge=1, le=50_000)] = 20
    max_wait_seconds: Seconds = 3600
    max_window_bytes: Annotated[int, Field(ge=1, le=200_000_000)] = 190_000_000
    max_enqueued_tokens: Annotated[int, Field(ge=1)] | None = None
    poll_seconds: Seconds = 60
    create_grace_seconds: Seconds = 300
    cancel_allowance_seconds: Seconds = 600
    sync_allowance_seconds: Seconds = 1200

    # Retention; 0 keeps for ever
    keep_documents_days: Days = 30
    keep_requests_days: Days = 30
    keep_provider_files_days: Days = 7
    keep_deliveries_days: Days = 30

    # Webhooks
    webhook_private_targets: bool = False

    # The heartbeat
    heartbeat_seconds: Seconds = 1

    # Eyes
    metrics_token: Secret | None = None
    applicationinsights_connection_string: SecretStr | None = None
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0

    # Tests make hours pass
    test_clock: bool = False

    @field_validator("public_url", "internal_url", "n8n_url", "openai_base_url")
    @classmethod
    def _is_http_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("storage_container_url")
    @classmethod
    def _is_container(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"https://[^/]+/[^?]+", value):
            raise ValueError("must be the address of a container, https://ACCOUNT.blob.core.windows.net/CONTAINER")
        return value and value.rstrip("/")

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("is not a time zone name such as Europe/Berlin")
        return value

    @model_validator(mode="after")
    def _lease_outlives_the_provider_call(self) -> Self:
        if self.sync_deadline_seconds < self.attempt_lease_seconds:
            raise ValueError("SYNC_DEADLINE_SECONDS must not be shorter than ATTEMPT_LEASE_SECONDS")
        return self

    @model_validator(mode="after")
    def _documents_have_one_place(self) -> Self:
        places = (self.storage_dir, self.storage_container_url, self.storage_connection_string)
        if sum(place is not None for place in places) != 1:
            raise ValueError("documents: set one of STORAGE_DIR, STORAGE_CONTAINER_URL and STORAGE_CONNECTION_STRING")
        return self

    @model_validator(mode="after")
    def _provider_knows_the_app(self) -> Self:
        if self.openai_auth == "key" and self.openai_api_key is None:
            raise ValueError("OPENAI_API_KEY is not set (or set OPENAI_AUTH=entra, for Azure)")
        if self.openai_auth == "entra" and not self.openai_base_url.startswith("https://"):
            raise ValueError("OPENAI_AUTH=entra sends tokens: OPENAI_BASE_URL must start with https://")
        return self

    @model_validator(mode="after")
    def _time_is_real_in_production(self) -> Self:
        if self.test_clock and self.is_production:
            raise ValueError("TEST_CLOCK must be off in production")
        return self

    @model_validator(mode="after")
    def _rotation_changes_something(self) -> Self:
        if self.secret_key == self.secret_key_previous or self.internal_token == self.internal_token_previous:
            raise ValueError("a …_PREVIOUS secret must differ from the present one")
        return self

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def deadlines(self) -> Deadlines:
        return Deadlines(self.cancel_allowance_seconds, self.sync_allowance_seconds)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from environment variables or `NAME_FILE` files.

        Raises InvalidSettings with one line per fault, all faults at once.
        """
        values: dict[str, Any] = {}
        faults: list[str] = []
        for field in cls.model_fields:
            name = field.upper()
            try:
                value = read_variable(environ, name)
            except OSError as error:
                faults.append(f"{name}_FILE: {error.strerror}: {error.filename}")
                continue
            if value is not None:
                values[field] = value
        try:
            if not faults:
                return cls(**values)
        except ValidationError as error:
            faults += [_fault(item) for item in error.errors(include_url=False, include_input=False)]
        raise InvalidSettings("Sluice cannot start, settings are wrong:\n  " + "\n  ".join(faults))


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """A variable, or the content of the file that NAME_FILE names; None if neither is set. Raises OSError."""
    if path := environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip() or None
    return environ.get(name) or None


def _fault(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    message = "is not set" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
