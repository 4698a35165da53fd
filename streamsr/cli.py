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
from typing import Annotated, Literal

import typer

from .bench import BENCHMARKS
from .cli_options import Device, Engine, Fidelity, Seed, Steps
from .cli_services import serve, watch
from .errors import StreamSRError, redact
from .interrupt import ends_at_once
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
    engine: Engine = "auto",
    codec: Annotated[
        Literal["h264", "ffv1", "h264_nvenc", "hevc_nvenc"],
        typer.Option(help="ffv1 is lossless (.mkv, .avi); NVENC is a GPU's."),
    ] = "h264",
    crf: Annotated[
        int | None, typer.Option(min=0, max=51, help="Quality of all but ffv1; lower is better.")
    ] = None,
    hwaccel: Annotated[
        Literal["none", "auto", "cuda", "vaapi"],
        typer.Option(help="What decodes a file or rtsp://. auto: the first that works here."),
    ] = "none",
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
            engine=engine,
            codec=codec,
            crf=crf,
            hwaccel=hwaccel,
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


app.command()(serve)
app.command()(watch)


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
