"""The commands that run until they are told to stop: ``serve`` and ``watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .cli_options import Fidelity, parsed_steps
from .session_options import EngineName

__all__ = ["serve", "watch"]


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit():
        return int(first), int(last)
    raise typer.BadParameter(f"{text!r} is not FIRST-LAST")


def serve(
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML with the same names, and limits; options here win."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of HTTP; 0: any.", show_default="8080")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="STREAMSR_TOKEN", help="Bearer token that publishes, watches and controls."),
    ] = None,
    view_token: Annotated[
        str | None, typer.Option(envvar="STREAMSR_VIEW_TOKEN", help="Bearer token that only watches.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Serve https with this certificate.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to others without token or TLS.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that clients call the server by; may be repeated."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="https://... of a foreign page that may call; may be repeated."),
    ] = None,
    stun: Annotated[str | None, typer.Option(metavar="stun:HOST:PORT", help="A STUN server.")] = None,
    turn: Annotated[str | None, typer.Option(metavar="turn:HOST:PORT", help="A TURN server.")] = None,
    turn_user: Annotated[str | None, typer.Option(metavar="NAME", help="Its user.")] = None,
    turn_password: Annotated[
        str | None, typer.Option(envvar="STREAMSR_TURN_PASSWORD", help="Its password.")
    ] = None,
    ice_address: Annotated[
        list[str] | None,
        typer.Option(metavar="IP", help="Address of this machine that media may use; by default all."),
    ] = None,
    udp_ports: Annotated[
        Any, typer.Option(parser=_ports, metavar="FIRST-LAST", help="UDP ports for media; by default any.")
    ] = None,
    scale: Annotated[
        Literal["1", "2", "4", "8"] | None, typer.Option(help="Output over input size.", show_default="2")
    ] = None,
    fidelity: Fidelity = None,
    steps: Annotated[
        Any,
        typer.Option(
            parser=parsed_steps, metavar="auto|N", help="Steps of the network.", show_default="auto"
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MS", help="Age a frame is to stay below; more restores more faces.", show_default="170"
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None, typer.Option(help="As for enhance.", show_default="auto")
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="The same.", show_default="auto")] = None,
) -> None:
    """Serve calls: WHIP in at /whip/NAME, WHEP out at /whep/NAME, and a page at /.

    On an address that others can reach it wants a token and TLS. Ctrl-C ends all sessions.
    """
    from .cli_serve import read_config, run

    run(
        read_config(
            config,
            host=host,
            port=port,
            token=token,
            view_token=view_token,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            insecure=insecure or None,
            hosts=allow_host,
            origins=allow_origin,
            ice_addresses=ice_address,
            udp_ports=udp_ports,
            scale=None if scale is None else int(scale),
            fidelity=fidelity,
            steps=steps,
            budget_ms=budget,
            device=device,
            engine=engine,
            stun=stun,
            turn=turn,
            turn_user=turn_user,
            turn_password=turn_password,
        )
    )


def watch(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML with a [[camera]] table each.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether CONFIG is right.")] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="On all machines of the Ray cluster that [watch.ray] names.")
    ] = False,
) -> int:
    """Take many cameras, each in a process of its own, and keep them alive.

    SIGHUP reads CONFIG again and restarts only the cameras that changed; SIGTERM and Ctrl-C finish the
    outputs. Log lines go to stderr, as JSON.
    """
    from .cli_watch import check as check_config
    from .cli_watch import run

    if check:
        check_config(config)
        return 0
    return run(config, ray=ray)
