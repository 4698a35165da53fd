"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from .session_options import DEFAULT_FIDELITY, MAX_STEPS, EngineName

__all__ = ["Device", "Engine", "Fidelity", "Seed", "Steps", "parsed_steps"]


def parsed_steps(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_STEPS:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither 'auto' nor in 1..{MAX_STEPS}")


Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a CUDA GPU where there is one, else the CPU.")
]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="What evaluates the network. auto: openvino on a CPU, eager on a GPU; there the other two are "
        "compiled in the background."
    ),
]
Fidelity = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="0: sharpest, with texture that is likely; 1: closest to what was seen. In five levels.",
        show_default=str(DEFAULT_FIDELITY),
    ),
]
Steps = Annotated[
    str,
    typer.Option(
        parser=parsed_steps,
        metavar="auto|N",
        help="Steps of the network; auto: one on a CPU, what each face needs on a GPU.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Fixes the output.")]
