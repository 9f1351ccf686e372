"""Settings from the environment. All faults are reported at once, and a fault stops the start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from . import flavours, models


class BadSettings(Exception):
    """The environment holds values that the offline provider cannot start with."""


DEFAULT_DATA_DIR = Path(".sluice/offline_provider")


def _setting(name: str, default, minimum: float | None = None, is_live: bool = False):
    """`is_live`: /admin/limits may change it while the server runs."""
    return field(default=default, metadata={"env": name, "minimum": minimum, "is_live": is_live})


def _live(name: str, default, minimum: float):
    return _setting(name, default, minimum, is_live=True)


@dataclass(frozen=True)
class Settings:
    provider_key: str = _setting("OFFLINE_PROVIDER_KEY", "")
    admin_token: str = _setting("OFFLINE_ADMIN_TOKEN", "")  # empty: the admin endpoints do not exist
    bind: str = _setting("OFFLINE_BIND", "127.0.0.1:8088")
    data_dir: Path = _setting("OFFLINE_DATA_DIR", DEFAULT_DATA_DIR)  # noqa: RUF009 (a field, not a call)
    flavour: str = _setting("OFFLINE_FLAVOUR", "openai")
    deployments: str = _setting("OFFLINE_DEPLOYMENTS", "")  # only with the flavour azure
    azure_fail_fast: int = _setting("OFFLINE_AZURE_FAIL_FAST", 0, 0)  # the quota is looked at in the create
    threads: int = _setting("OFFLINE_THREADS", 16, 1)

    # How long things take, in seconds. The defaults add up to about one second per batch.
    response_seconds: float = _live("OFFLINE_RESPONSE_SECONDS", 0.0, 0)
    validating_seconds: float = _live("OFFLINE_VALIDATING_SECONDS", 0.3, 0)
    in_progress_seconds: float = _live("OFFLINE_IN_PROGRESS_SECONDS", 0.5, 0)
    finalizing_seconds: float = _live("OFFLINE_FINALIZING_SECONDS", 0.2, 0)
    cancelling_seconds: float = _live("OFFLINE_CANCELLING_SECONDS", 0.2, 0)
    # What the completion window "24h" means. A shorter one lets a test see a batch expire.
    window_seconds: float = _live("OFFLINE_WINDOW_SECONDS", 86_400.0, 0)

    # Published limits of the real service; tests lower them.
    max_requests_per_batch: int = _live("OFFLINE_MAX_REQUESTS_PER_BATCH", 50_000, 1)
    max_batch_file_bytes: int = _live("OFFLINE_MAX_BATCH_FILE_BYTES", 200 * 1024 * 1024, 1)
    max_file_bytes: int = _live("OFFLINE_MAX_FILE_BYTES", 512 * 1024 * 1024, 1)
    batches_per_hour: int = _live("OFFLINE_BATCHES_PER_HOUR", 2_000, 1)
    uploads_per_minute: int = _live("OFFLINE_UPLOADS_PER_MINUTE", 1_000, 1)
    enqueued_tokens: int = _live("OFFLINE_ENQUEUED_TOKENS", 1_000_000_000, 1)  # per model

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
        faults += _bad_flavour(values)
        if faults:
            raise BadSettings("\n".join(faults))
        return cls(**values)


def _bad_flavour(values: dict) -> list[str]:
    flavour, deployments = values.get("flavour", "openai"), values.get("deployments", "")
    if flavour not in flavours.FLAVOURS:
        return [f"OFFLINE_FLAVOUR: must be one of {', '.join(flavours.FLAVOURS)}, but is {flavour}"]
    if bool(deployments) != flavours.FLAVOURS[flavour].has_deployments:
        return ["OFFLINE_DEPLOYMENTS: belongs to OFFLINE_FLAVOUR=azure, and azure needs it"]
    try:
        models.read_deployments(deployments)
    except ValueError as fault:
        return [f"OFFLINE_DEPLOYMENTS: {fault}"]
    return []


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
