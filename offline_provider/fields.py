"""Reads the fields of a JSON body, and words each fault as the API does."""

from . import flavours
from .errors import ApiError, invalid_value, missing_parameter, unsupported

_TYPE_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def invalid_type(param: str, expected: str, value) -> ApiError:
    got = _TYPE_NAMES.get(type(value), "something else")
    return ApiError(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param=param,
        code="invalid_type",
    )


def supported_values(values) -> str:
    return "Supported values are: " + ", ".join(f"'{value}'" for value in values) + "."


class Fields:
    """One JSON object. `path` is where it stands in the body, for messages ("text.format").

    An optional field may be absent or null: both read as None.
    """

    def __init__(self, value, path: str = ""):
        if not isinstance(value, dict):
            raise invalid_type(path or "body", "an object", value)
        self.value = value
        self._path = path

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def only(self, known: frozenset[str]) -> None:
        for name in self.value:
            if name not in known:
                param = self.path(name[:100])
                raise ApiError(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")

    def refuse(self, name: str, what: str) -> None:
        """For a field that the real API knows and this one has no answer to."""
        if self.value.get(name) not in (None, False, [], ""):
            raise unsupported(self.path(name), what)

    def get(self, name: str, kind: type | tuple, expected: str, required: bool = False):
        value = self.value.get(name)
        if value is None:
            if required:
                raise missing_parameter(self.path(name))
            return None
        # A boolean is an int to Python, but not to the API.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise invalid_type(self.path(name), expected, value)
        return value

    def text(self, name: str, required: bool = False, choices=None, most: int | None = None):
        value = self.get(name, str, "a string", required)
        if value is not None and choices is not None and value not in choices:
            raise invalid_value(self.path(name), f"Invalid value: '{value[:100]}'. {supported_values(choices)}")
        if value is not None and most is not None and len(value) > most:
            raise ApiError(
                f"Invalid '{self.path(name)}': string too long. Expected a string with maximum "
                f"length {most}, but got a string with length {len(value)} instead.",
                param=self.path(name),
                code="string_above_max_length",
            )
        return value

    def boolean(self, name: str) -> bool | None:
        return self.get(name, bool, "a boolean")

    def array(self, name: str, required: bool = False) -> list | None:
        return self.get(name, list, "an array", required)

    def object(self, name: str, required: bool = False) -> "Fields | None":
        value = self.get(name, dict, "an object", required)
        return None if value is None else Fields(value, self.path(name))

    def integer(self, name: str, minimum: int, maximum: int | None = None, required: bool = False):
        value = self.get(name, int, "an integer", required)
        return self._bounded(name, value, minimum, maximum, "integer")

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        value = self.get(name, (int, float), "a decimal")
        return self._bounded(name, value, minimum, maximum, "decimal")

    def _bounded(self, name, value, minimum, maximum, kind):
        if value is None:
            return None
        if value < minimum:
            wrong, sign, bound = "below min", ">=", minimum
        elif maximum is not None and value > maximum:
            wrong, sign, bound = "above max", "<=", maximum
        else:
            return value
        path = self.path(name)
        raise ApiError(
            f"Invalid '{path}': {kind} {wrong}imum value. Expected a value {sign} {bound}, "
            f"but got {str(value)[:40]} instead.",
            param=path,
            code=f"{kind}_{wrong.replace(' ', '_')}_value",
        )


def metadata(body: Fields) -> dict | None:
    """Up to 16 pairs of strings: keys of at most 64, values of at most 512 characters."""
    pairs = body.object("metadata")
    if pairs is None:
        return None
    if len(pairs.value) > 16:
        raise ApiError(
            "Invalid 'metadata': too many properties. Expected an object with at most 16 "
            f"properties, but got an object with {len(pairs.value)} properties instead.",
            param="metadata",
            code="object_above_max_properties",
        )
    for key in pairs.value:
        if len(key) > 64:
            raise ApiError(
                "Invalid 'metadata': property name too long. Expected at most 64 characters.",
                param="metadata",
                code="string_above_max_length",
            )
        if pairs.text(key, most=512) is None:
            raise invalid_type(pairs.path(key), "a string", None)
    return pairs.value


def expires_after(value: Fields | None) -> int | None:
    """`{anchor: "created_at", seconds}` → seconds; both are required once the object is there."""
    if value is None:
        return None
    value.text("anchor", required=True, choices=("created_at",))
    return value.integer("seconds", flavours.current().min_expiry_seconds, 2_592_000, required=True)
