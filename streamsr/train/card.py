"""``streamsr train card``: the figures of the packaged weights, into their model card and the README.

Runs the benchmarks below as commands and puts the Markdown they write between marker lines:

    <!-- figures: clips -->
    (replaced)
    <!-- /figures -->

So no figure there is typed by hand, and each table ends in the command and the weights that made it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError, StreamSRError
from ..model.weights import PACKAGED

__all__ = ["SECTIONS", "fill", "one_model", "write_card"]

MODEL_CARD = PACKAGED / "MODEL_CARD.md"
README = Path(__file__).parents[2] / "README.md"  # in a checkout
_STILLS = "quality --set val --frames 20 --fidelity 0.4,1"
# name of the section -> the benchmark and its options; the option that names the file of its Markdown
SECTIONS = {
    "clips": (
        "quality --conditions clean,call,cctv --scale 4 --frames 24 --fidelity 0.4,1",
        "--markdown",
    ),
    "stills": (_STILLS, "--markdown"),
    "gains": (_STILLS, "--gains"),
    "guide": ("guide", "--markdown"),
    "groups": ("groups", "--markdown"),
}
PICTURES = {
    "clips": ("--sheet", "--profile", "--plot"),
    "gains": ("--sheet", "--plot"),
    "guide": ("--plot",),
}
_MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def write_card(
    data: Path, out: Path, device: str = "auto", targets: Sequence[Path] | None = None
) -> list[Path]:
    """Run what the targets ask for and fill them in. Returns the files that have changed.

    data: as for the benchmarks. out: folder of the tables, the JSON lines and the pictures to look at.
    targets: by default the model card and, in a checkout, the README. A target without markers is left
    alone. Raises ConfigError for an unknown section, StreamSRError for a benchmark that fails, or where the
    weights change meanwhile.
    """
    targets = [MODEL_CARD, *([README] if README.is_file() else [])] if targets is None else targets
    wanted = dict.fromkeys(name for path in targets for _, name, _ in _MARKED.findall(path.read_text()))
    if unknown := set(wanted) - set(SECTIONS):
        raise ConfigError(f"figures must be of {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[str]] = {}  # a benchmark of two sections runs once
    for name in wanted:
        bench, option = SECTIONS[name]
        runs.setdefault(bench, []).extend([option, str(out / f"{name}.md")])
        for picture in PICTURES.get(name, ()):
            runs[bench] += [picture, str(out / f"{name}{picture.removeprefix('-')}.png")]
    sha256 = one_model({bench: _run(bench, data, out, device, outputs) for bench, outputs in runs.items()})

    def table(name: str) -> str:
        text = (out / f"{name}.md").read_text(encoding="utf-8")
        return f"{text}\n`streamsr bench {SECTIONS[name][0]} --data DATA`, weights {sha256[:12]}\n"

    return [path for path in targets if fill(path, table)]


def fill(path: Path, table: Callable[[str], str]) -> bool:
    """Put ``table(name)`` between every pair of markers of a file; whether that changed it."""
    before = path.read_text(encoding="utf-8")
    after = _MARKED.sub(lambda found: found[1] + table(found[2]) + found[3], before)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def one_model(found: Mapping[str, str]) -> str:
    """found: sha256 of the weights by benchmark; which they all had. Raises StreamSRError if they differ."""
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{sha[:12]} in {bench.split()[0]}" for bench, sha in found.items())
        raise StreamSRError(f"the weights changed while they were measured: {listed}; run it again")
    return next(iter(found.values()), "")


def _run(bench: str, data: Path, out: Path, device: str, outputs: Sequence[str]) -> str:
    """Leaves its files in ``out``; the sha256 of the weights."""
    name, *options = shlex.split(bench)
    shared = ["--data", str(data), "--device", device, "--json"]
    if name == "quality":
        shared += ["--work", str(out)]
    command = [sys.executable, "-m", "streamsr", "bench", name, *options, *shared, *outputs]
    print(f"streamsr bench {bench}", flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StreamSRError(f"streamsr bench {bench} failed")
    line = done.stdout.splitlines()[-1]
    (out / f"{Path(outputs[1]).stem}.json").write_text(line + "\n", encoding="utf-8")
    return str(json.loads(line)["model_sha256"])
