"""The schema as JSON Schema, for editors: completion and red lines while a spec is typed."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
import typing
from typing import Any

from .schema import DialectSpec, OperatorSpec, Required, VariantSpec

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def schemas() -> dict[str, str]:
    """The three kinds of file, by name."""
    kinds = {"operator": OperatorSpec, "dialect": DialectSpec, "variant": VariantSpec}
    return {name: json.dumps(_document(kind), indent=2) + "\n" for name, kind in kinds.items()}


def _document(kind: type) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    _record(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__.removesuffix("Spec"),
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": dict(sorted(definitions.items())),
    }


def _record(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # found again, not begun again, by what refers to itself
        hints = typing.get_type_hints(kind)
        fields = [field for field in dataclasses.fields(kind) if field.name != "where"]
        needed = [one.name for one in fields if one.default is one.default_factory is dataclasses.MISSING]
        definitions[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").split("\n")[0],
            "properties": {field.name: _type(hints[field.name], definitions) for field in fields},
            "required": needed,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _type(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, definitions)
    if origin in (dict, collections.abc.Mapping):
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if origin is tuple:
        inner = _type(arguments[0], definitions)
        return {"anyOf": [{"type": "array", "items": inner}, inner]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if arguments:  # a union
        return {"anyOf": [_type(one, definitions) for one in arguments if one is not Required]}
    return {"type": _SCALARS[kind]}
