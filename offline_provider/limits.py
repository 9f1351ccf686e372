"""The settings as they are now: those of the start, and what /admin/limits has changed since."""

from dataclasses import fields

from .db import Database
from .errors import ApiError, invalid_value
from .settings import Settings

MOST = 10**15
LIVE = {setting.name: setting for setting in fields(Settings) if setting.metadata["is_live"]}


class Limits:
    """Stands in for a `Settings`: every setting is an attribute."""

    def __init__(self, settings: Settings, db: Database):
        self._settings = settings
        self._db = db
        self._changed: dict = db.control("limits", {})

    def __getattr__(self, name: str):
        # Only called for what the instance does not have.
        return self._changed[name] if name in self._changed else getattr(self._settings, name)

    def now(self) -> dict:
        return {name: getattr(self, name) for name in LIVE}

    def change(self, wanted: dict) -> None:
        """All or nothing. ApiError 400 names what cannot be set."""
        changed = {**self._changed, **{name: _checked(name, value) for name, value in wanted.items()}}
        self._db.set_control("limits", changed)
        self._changed = changed


def _checked(name: str, value):
    if name not in LIVE:
        known = ", ".join(LIVE)
        message = f"Unknown parameter: '{name[:100]}'. Known are: {known}."
        raise ApiError(message, param=name[:100], code="unknown_parameter")
    setting = LIVE[name]
    kinds = (int,) if isinstance(setting.default, int) else (int, float)
    minimum = setting.metadata["minimum"]
    if type(value) not in kinds or not minimum <= value <= MOST:
        raise invalid_value(name, f"'{name}' must be a number of at least {minimum:g}.")
    return type(setting.default)(value)
