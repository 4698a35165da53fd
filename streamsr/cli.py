"""The command line. Each command reads its options, then calls what does the work.

Exit status: 0 the job was done; 2 a bad option, source, output or file, with one line on stderr;
128 + n ended by signal n; 1 a fault of the program, with its traceback.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .bench import BENCHMARKS
from .errors import StreamSRError, redact
from .interrupt import ends_at_once
from .session_options import DEFAULT_FIDELITY, MAX_STEPS
from .version import __version__

__all__ = ["app", "main"]

YEAR_S = 365 * 24 * 3600.0

app = typer.Typer(
    name="streamsr",
    help="Real-time enhancement of face video: files, cameras and RTSP streams.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own by default) and return its exit status."""
    # Read when torch loads. Idle OpenMP threads spin by default: on a busy machine that costs 20 times
    # the work itself; sleeping at once costs half as much again on an idle one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _occupy_standard_streams()
    try:
        status = app(args=argv, prog_name="streamsr", standalone_mode=False)
    except typer.TyperException as error:  # a usage error
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return _refused(f"{error.format_message()}{hint}")
    except StreamSRError as error:
        return _refused(str(error))
    return status if isinstance(status, int) else 0


def _occupy_standard_streams() -> None:
    """Put /dev/null where one is closed: the next file opened would take its number, and what libraries
    print would end up in it (uvloop aborts)."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - as long as the process


def _refused(message: str) -> int:
    print(f"error: {redact(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"streamsr {__version__}")
        raise typer.Exit


def _steps(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_STEPS:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither 'auto' nor in 1..{MAX_STEPS}")


@app.callback(invoke_without_command=True)
def streamsr(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> int | None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
    return None


Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a CUDA GPU where there is one, else the CPU.")
]
Fidelity = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="0: sharpest; 1: closest to the input. One set of weights serves all values so far.",
        show_default=str(DEFAULT_FIDELITY),
    ),
]
Steps = Annotated[
    str,
    typer.Option(
        parser=_steps,
        metavar="auto|N",
        help="Steps of the network; auto: one on a CPU, what each face needs on a GPU.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Fixes the output.")]


@app.command()
def enhance(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A file, frames/%05d.png, rtsp://..., camera:0 or /dev/video0."),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="DST", help="A file, frames/%05d.png or rtsp://...")
    ],
    scale: Annotated[Literal["1", "2", "4", "8"], typer.Option(help="Output size over input size.")] = "2",
    fidelity: Fidelity = None,
    steps: Steps = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    codec: Annotated[Literal["h264", "ffv1"], typer.Option(help="ffv1 is lossless (.mkv, .avi).")] = "h264",
    crf: Annotated[int | None, typer.Option(min=0, max=51, help="Quality of h264; lower is better.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures of the run here, as JSON.")
    ] = None,
    rtsp_transport: Annotated[
        Literal["tcp", "udp"] | None, typer.Option(help="How RTP comes from an rtsp:// source (tcp).")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="S", min=0.1, max=YEAR_S, help="Finish a live stream after S seconds."),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also keep original and enhanced here, signed: see verify."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="KEY.pem", help="What signs the evidence: see make-key.")
    ] = None,
) -> None:
    """Enhance SRC and write it to DST.

    A file keeps its number of frames and their times; to rtsp:// it goes at its own pace, as a live
    stream. A live stream runs until it ends, --duration is over or Ctrl-C, which finishes the output;
    Ctrl-C on a file leaves nothing.
    """
    with ends_at_once():
        from .cli_enhance import Interrupted, run

    try:
        run(
            source,
            output,
            scale=int(scale),
            fidelity=fidelity,
            steps=steps,
            device=device,
            seed=seed,
            codec=codec,
            crf=crf,
            overwrite=overwrite,
            report_path=report,
            rtsp_transport=rtsp_transport,
            duration_s=duration,
            evidence_folder=evidence,
            key_path=key,
        )
    except Interrupted as interrupted:
        print(f"interrupted by {interrupted}: nothing was written", file=sys.stderr)
        raise typer.Exit(128 + interrupted.signum) from None


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit():
        return int(first), int(last)
    raise typer.BadParameter(f"{text!r} is not FIRST-LAST")


@app.command()
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
        Any, typer.Option(parser=_steps, metavar="auto|N", help="Steps of the network.", show_default="auto")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MS", help="Age a frame is to stay below; more restores more faces.", show_default="140"
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None, typer.Option(help="As for enhance.", show_default="auto")
    ] = None,
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
            stun=stun,
            turn=turn,
            turn_user=turn_user,
            turn_password=turn_password,
        )
    )


@app.command()
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


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where demo.mp4, demo.png and demo.json go.")
    ] = Path("out"),
    seconds: Annotated[float, typer.Option(metavar="S", help="Length of the live run.")] = 10.0,
    fidelity: Fidelity = None,
    steps: Steps = "auto",
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Run the main job on the embedded sample, and measure it.

    A degraded live stream in, an enhanced one out; writes a film that shows both, a sheet and all figures.
    """
    from . import demo as sample

    sample.run(out, seconds=seconds, device=device, fidelity=fidelity, steps=steps, seed=seed)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    serve_config: Annotated[
        Path | None,
        typer.Option("--serve", metavar="FILE", help="Also try the addresses of this serve --config."),
    ] = None,
) -> int:
    """Show what this machine can do, what is missing and the fix. Status 2: the core does not work."""
    from rich.console import Console

    from .console import checks_text
    from .doctor import core_works, examine

    extra = []
    if serve_config is not None:
        from .doctor_serve import examine_serve
        from .serve import ServeConfig

        extra = examine_serve(ServeConfig.load(serve_config, {}))
    checks = [*examine(), *extra]
    if as_json:
        print(
            json.dumps({"ok": core_works(checks), "checks": [check.as_dict() for check in checks]}, indent=2)
        )
    else:
        Console().print(checks_text(checks), soft_wrap=True)
    return 0 if core_works(checks) else 2


@app.command()
def train(
    stage: Annotated[
        Literal["g", "a", "b", "c", "d", "e", "card"],
        typer.Argument(
            help="g: the guide alone; a: crops; b: whole faces; c: clips, with a memory; d: adversarial; "
            "e: adversarial, longer clips. card: measure the packaged weights and fill in their model card."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Holds faces.csv, faces/; from c on motion/, from d peers/."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Checkpoint, log and weights; resumed if it has one.")
    ],
    preset: Annotated[Literal["S", "M", "L"], typer.Option(help="Size of the network.")] = "M",
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MIN",
            help="Of this stage, over all resumptions.",
            show_default="g: 5, a: 15, b and c: 120, d and e: 60",
        ),
    ] = None,
    begin: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights to begin from.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train one stage of the recipe that made the weights."""
    if stage == "card":
        from .train.card import write_card

        for path in write_card(data, out, device):
            print(f"wrote {path}")
        return
    from .train.command import train as run

    run(stage, data=data, out=out, preset=preset, minutes=minutes, begin=begin, device=device, seed=seed)


@app.command()
def verify(
    recording: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The .jsonl of a segment, or a folder of segments."),
    ],
    key: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC.pem", help="The public key that it must be signed with."),
    ] = None,
    rerun: Annotated[
        bool,
        typer.Option("--rerun", help="Also decode the original, enhance it again and compare."),
    ] = False,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> int:
    """Check an evidence recording, and name the first frame that does not fit.

    Chain, signatures, and every packet of original and enhanced recording. Status 0 only if all is well, 2
    otherwise. A restored face is not evidence of identity: what is proved is what streamsr received and what
    it produced, unaltered from then on; not that the camera was honest.
    """
    from .cli_verify import run

    return run(recording, key, rerun=rerun, device=device, as_json=as_json)


@app.command("make-key")
def make_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes: key.pem.")],
) -> None:
    """Make an Ed25519 key that signs evidence: FILE, for its owner alone, and its .pub.pem to give away."""
    from .cli_verify import write_key

    write_key(path)


BENCH_NAMES = [name for name, module in BENCHMARKS.items() if importlib.util.find_spec(module)]


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(BENCH_NAMES)}.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Its own; try NAME --help.")
    ] = None,
) -> int:
    """Run a benchmark. It prints a table; its last line is JSON."""
    if name not in BENCH_NAMES:
        raise typer.BadParameter(f"no benchmark {name!r}; there are: {', '.join(BENCH_NAMES)}")
    status = importlib.import_module(BENCHMARKS[name]).main(arguments or [])
    return int(status or 0)
