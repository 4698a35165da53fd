"""Where in a TOML file a value stands: for messages that name the line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

__all__ = ["line_of"]


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, on which the statement begins that sets ``path``, such as ("camera", 1, "scale").

    Of a path that is not there, the line of its longest part that is; 1 where nothing is.
    text: valid TOML. The file's own parser decides, on beginnings of the file: a beginning either holds the
    value, does not hold it, or ends inside a statement.
    """
    lines = [line + "\n" for line in text.split("\n")]
    whole = tomllib.loads(text)
    present = next((path[:end] for end in range(len(path), 0, -1) if _has(whole, path[:end])), ())
    if not present:
        return 1
    without, holding = 0, len(lines)  # beginnings, in lines: that one does not hold the value, this one does
    while True:
        middle = _parsed(lines, (without + holding) // 2, without)
        if middle is None:  # all between is inside a statement, or there is nothing between
            later = _parsed_after(lines, (without + holding) // 2, holding)
            if later is None:
                return without + 1
            middle = later
        end, document = middle
        without, holding = (without, end) if _has(document, present) else (end, holding)


def _parsed(lines: list[str], end: int, above: int) -> tuple[int, dict[str, Any]] | None:
    """The longest beginning of at most ``end`` and more than ``above`` lines that is TOML itself."""
    for count in range(end, above, -1):
        try:
            return count, tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
    return None


def _parsed_after(lines: list[str], end: int, below: int) -> tuple[int, dict[str, Any]] | None:
    """The shortest beginning of more than ``end`` and fewer than ``below`` lines that is TOML itself."""
    for count in range(end + 1, below):
        try:
            return count, tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
    return None


def _has(document: Any, path: Sequence[str | int]) -> bool:
    for part in path:
        if isinstance(document, list) and isinstance(part, int):
            if part >= len(document):
                return False
        elif not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True
