"""JSON Schemas for structured output: what is accepted, and what a node says.

A schema that this provider cannot follow is refused with 400, as the API does.
"""

from .errors import ApiError

MAX_DEPTH = 10
MAX_NODES = 1_000
MAX_ARRAY_ITEMS = 100
MAX_STRING_CHARS = 10_000
MAX_NUMBER = 1e15
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
DEFINITIONS = ("$defs", "definitions")
# Promises about the value that the builder does not keep.
UNSUPPORTED = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "prefixItems",
    "contains",
    "uniqueItems",
    "pattern",
)


class InvalidSchema(ApiError):
    """The schema cannot be followed. `where` is a path of property names."""

    def __init__(self, where: tuple[str, ...], problem: str):
        super().__init__(
            f"Invalid schema for response format: In context={where}, {problem}",
            param="text.format.schema",
            code="invalid_json_schema",
        )


def check(schema: dict, strict: bool) -> None:
    """Refuse what cannot be followed. `strict` asks for closed objects, as the API does."""
    if schema.get("type") != "object":
        raise InvalidSchema((), f"schema must have type 'object', but has {schema.get('type')!r}.")
    counter = iter(range(MAX_NODES))
    _check_node(schema, (), strict, counter)
    for kind in DEFINITIONS:
        for name, definition in _object(schema, kind, ()).items():
            _check_node(definition, (kind, name), strict, counter)


def resolve(node: dict, root: dict, where: tuple[str, ...]) -> dict:
    """Follow `$ref` ("#", "#/$defs/name") until a node without one."""
    for _ in range(MAX_DEPTH):
        if "$ref" not in node:
            return node
        node = _target(node["$ref"], root, where)
    raise InvalidSchema(where, "its references go round in a circle.")


def type_of(node: dict, where: tuple[str, ...]) -> str:
    """The type to build. Of several, the first that is not null."""
    types = node.get("type")
    if types is None:
        return "object" if "properties" in node else "array" if "items" in node else "string"
    types = types if isinstance(types, list) else [types]
    if not types or any(name not in TYPES for name in types):
        raise InvalidSchema(where, f"type {str(types)[:80]} is not valid.")
    return next((name for name in types if name != "null"), "null")


def count(node: dict, name: str, where: tuple[str, ...], most: int) -> int | None:
    """A size such as minItems. Above `most` it is refused: nobody could want to read the answer."""
    value = node.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidSchema(where, f"'{name}' must be a non-negative integer.")
    if value > most and name.startswith("min"):
        raise InvalidSchema(where, f"'{name}' above {most} is not supported.")
    return value


def bound(node: dict, name: str, where: tuple[str, ...]) -> float | None:
    """A number such as minimum."""
    value = node.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidSchema(where, f"'{name}' must be a number.")
    if abs(value) > MAX_NUMBER:
        raise InvalidSchema(where, f"'{name}' beyond {MAX_NUMBER:g} is not supported.")
    return value


def _check_node(node, where: tuple[str, ...], strict: bool, counter) -> None:
    if not isinstance(node, dict):
        raise InvalidSchema(where, "a schema must be an object.")
    if next(counter, None) is None:
        raise InvalidSchema(where, f"more than {MAX_NODES} schemas are not supported.")
    if len(where) > 2 * MAX_DEPTH:  # each level adds a keyword and a name
        raise InvalidSchema(where, "the schema is nested too deeply.")
    for name in UNSUPPORTED:
        if name in node:
            raise InvalidSchema(where, f"'{name}' is not permitted.")
    properties = _object(node, "properties", where)
    required = node.get("required", [])
    if not isinstance(required, list) or any(name not in list(properties) for name in required):
        raise InvalidSchema(where, "'required' must be an array of keys in properties.")
    if strict and "$ref" not in node and type_of(node, where) == "object":
        _check_closed(node, properties, where)
    for name, child in properties.items():
        _check_node(child, (*where, "properties", name), strict, counter)
    if "items" in node:
        _check_node(node["items"], (*where, "items"), strict, counter)
    for number, option in enumerate(_options(node, where)):
        _check_node(option, (*where, "anyOf", str(number)), strict, counter)


def _check_closed(node: dict, properties: dict, where: tuple[str, ...]) -> None:
    if "anyOf" in node or "enum" in node or "const" in node:
        return
    if node.get("additionalProperties") is not False:
        raise InvalidSchema(where, "'additionalProperties' is required to be supplied and to be false.")
    missing = [name for name in properties if name not in node.get("required", [])]
    if missing:
        raise InvalidSchema(
            where,
            "'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing {missing[:5]}.",
        )


def _object(node: dict, name: str, where: tuple[str, ...]) -> dict:
    value = node.get(name, {})
    if not isinstance(value, dict):
        raise InvalidSchema(where, f"'{name}' must be an object.")
    return value


def _options(node: dict, where: tuple[str, ...]) -> list:
    options = node.get("anyOf", [])
    if not isinstance(options, list) or ("anyOf" in node and not options):
        raise InvalidSchema(where, "'anyOf' must be a non-empty array.")
    return options


def _target(reference, root: dict, where: tuple[str, ...]) -> dict:
    if reference == "#":
        return root
    kind, _, name = str(reference).removeprefix("#/").partition("/")
    definitions = root.get(kind) if kind in DEFINITIONS else None
    target = definitions.get(name) if isinstance(definitions, dict) else None
    if not str(reference).startswith("#/") or not isinstance(target, dict):
        raise InvalidSchema(where, f"reference {str(reference)[:80]!r} cannot be resolved.")
    return target
