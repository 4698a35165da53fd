"""What pydantic says of a TOML document, in the words of someone who wrote it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

__all__ = ["key_of", "text_of"]

KINDS = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "a string",
    "tuple_type": "a list",
}


def key_of(path: Sequence[str | int]) -> str:
    """("camera", 3, "roi", 2) -> "camera.roi[2]"; which camera it is, the line says."""
    parts: list[str] = []
    for index, part in enumerate(path):
        if isinstance(part, str):
            parts.append(part)
        elif index > 1:  # not the number of a [[camera]]
            parts[-1] += f"[{part}]"
    return ".".join(parts)


def text_of(error: ErrorDetails) -> str:
    """What is wrong, to be read after the key."""
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a key here"
    if kind == "value_error":
        return str(context["error"])
    got = f", got {_shown(value)}" if "input" in error and not isinstance(value, dict | tuple) else ""
    if kind in KINDS:
        return f"must be {KINDS[kind]}{got}"
    if kind == "literal_error":
        return f"must be one of {str(context['expected']).replace(' or ', ', ')}{got}"
    if kind in ("too_short", "too_long"):
        bound = context["min_length"] if kind == "too_short" else context["max_length"]
        return f"must have at {'least' if kind == 'too_short' else 'most'} {bound} items"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}{got}"
    text = error["msg"].removeprefix("Input should be ").replace("greater than or equal to", "at least")
    return f"must be {text.replace('less than or equal to', 'at most')}{got}"


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError:  # a date
        return str(value)
