"""Settings from the environment. All faults are reported at once, and a fault stops the start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path


class BadSettings(Exception):
    """The environment holds values that the offline provider cannot start with."""


DEFAULT_DATA_DIR = Path(".sluice/offline_provider")


def _setting(name: str, default, minimum: float | None = None):
    return field(default=default, metadata={"env": name, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    provider_key: str = _setting("OFFLINE_PROVIDER_KEY", "")
    admin_token: str = _setting("OFFLINE_ADMIN_TOKEN", "")  # empty: the admin endpoints do not exist
    bind: str = _setting("OFFLINE_BIND", "127.0.0.1:8088")
    data_dir: Path = _setting("OFFLINE_DATA_DIR", DEFAULT_DATA_DIR)  # noqa: RUF009 (a field, not a call)
    threads: int = _setting("OFFLINE_THREADS", 16, 1)

    # How long things take, in seconds. The defaults add up to about one second per batch.
    response_seconds: float = _setting("OFFLINE_RESPONSE_SECONDS", 0.0, 0)
    validating_seconds: float = _setting("OFFLINE_VALIDATING_SECONDS", 0.3, 0)
    in_progress_seconds: float = _setting("OFFLINE_IN_PROGRESS_SECONDS", 0.5, 0)
    finalizing_seconds: float = _setting("OFFLINE_FINALIZING_SECONDS", 0.2, 0)
    cancelling_seconds: float = _setting("OFFLINE_CANCELLING_SECONDS", 0.2, 0)
    # What the completion window "24h" means. A shorter one lets a test see a batch expire.
    window_seconds: float = _setting("OFFLINE_WINDOW_SECONDS", 86_400.0, 0)

    # Published limits of the real service; tests lower them.
    max_requests_per_batch: int = _setting("OFFLINE_MAX_REQUESTS_PER_BATCH", 50_000, 1)
    max_batch_file_bytes: int = _setting("OFFLINE_MAX_BATCH_FILE_BYTES", 200 * 1024 * 1024, 1)
    max_file_bytes: int = _setting("OFFLINE_MAX_FILE_BYTES", 512 * 1024 * 1024, 1)
    batches_per_hour: int = _setting("OFFLINE_BATCHES_PER_HOUR", 2_000, 1)
    uploads_per_minute: int = _setting("OFFLINE_UPLOADS_PER_MINUTE", 1_000, 1)
    enqueued_tokens: int = _setting("OFFLINE_ENQUEUED_TOKENS", 1_000_000_000, 1)  # per model

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        values, faults = {}, []
        for setting in fields(cls):
            try:
                raw = _read(env, setting.metadata["env"])
                if raw:
                    values[setting.name] = _parse(setting, raw)
            except (OSError, ValueError) as fault:
                faults.append(f"{setting.metadata['env']}: {fault}")
        if "provider_key" not in values:
            faults.append("OFFLINE_PROVIDER_KEY: must be set; it is the key that clients send")
        if faults:
            raise BadSettings("\n".join(faults))
        return cls(**values)


def _read(env: Mapping[str, str], name: str) -> str:
    """The value of NAME, or the content of the file that NAME_FILE points to."""
    if env.get(name + "_FILE"):
        return Path(env[name + "_FILE"]).read_text(encoding="utf-8").strip()
    return env.get(name, "").strip()


def _parse(setting, raw: str):
    value = type(setting.default)(raw)
    minimum = setting.metadata["minimum"]
    # `not >=` also refuses "nan", which compares with nothing.
    if minimum is not None and not minimum <= value < float("inf"):
        raise ValueError(f"must be at least {minimum:g}, but is {raw}")
    return value
