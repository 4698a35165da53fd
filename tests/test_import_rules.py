"""Who may import what: a subprocess per rule on libraries; the layers are read from the source."""

from __future__ import annotations

import ast
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "streamsr": ROOT / "streamsr",
    "streamsr.kernels": ROOT / "kernels",
    "streamsr.bench": ROOT / "bench",
}

# Lowest first. A module or package imports only itself and what stands in the rows above its own.
LAYERS = [
    {"clock", "collector", "errors", "interpreter", "interrupt", "machine", "version"},
    {"frame", "ladder", "loop", "report", "session_options", "size_limit", "worker"},
    {"channel", "fit", "misfit", "stats", "ycbcr"},
    {"face", "io", "kernels", "run_report"},
    {"features", "model", "stages"},
    {"pictures"},
    {"aligner", "gpu", "memory"},
    {"session"},
    {"enhancer"},
    {"pipeline"},
    {"rtc", "web", "evidence"},
    {"serve", "watch"},
    {"train", "rerun"},
    {"bench", "doctor", "side_by_side"},
    {"console", "demo"},
    {"cli_enhance", "cli_serve", "cli_verify", "cli_watch", "doctor_serve"},
    {"cli_options"},
    {"cli_services"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# streamsr's part -> libraries that it must not import, at its start or later
NEVER = {
    "io": {"torch"},
    "pipeline": {"torch"},
    "session": {"torch", "openvino"},
    "watch.remote_restorer": {"torch", "openvino", "av", "mediapipe"},
    "rtc": {"torch"},
    "evidence": {"torch", "openvino", "mediapipe"},
    "serve": {"torch"},
    "web": {"torch", "av", "aiortc", "mediapipe"},
    "model": {"aiortc", "av", "mediapipe"},
    "kernels": {"aiortc", "av", "mediapipe"},
}

IMPORT_ALL = """
import importlib, pkgutil, sys
part = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(getattr(part, "__path__", []), part.__name__ + "."):
    importlib.import_module(found.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""

IMPORT_ONE = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


def _run(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("streamsr", {"torch", "av", "aiortc", "mediapipe"}),
        *((f"streamsr.{p}", never) for p, never in NEVER.items()),
    ],
)
def test_importing_loads_none_of(part: str, forbidden: set[str]) -> None:
    for library in forbidden:
        assert importlib.util.find_spec(library), f"{library} is not installed: the rule would prove nothing"
    code = "import sys, streamsr; print(*sys.modules)" if part == "streamsr" else IMPORT_ALL
    assert not forbidden & set(_run(code, part).split())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("cli_watch", {"torch", "av", "cv2", "mediapipe"}),  # the supervisor
        ("watch.camera_parts", {"torch", "openvino"}),  # a camera's process, of which there are many
    ],
)
def test_processes_of_watch_load_none_of(module: str, forbidden: set[str]) -> None:
    assert not forbidden & set(_run(IMPORT_ONE, f"streamsr.{module}").split())


def test_import_is_light() -> None:
    code = "import time; t = time.perf_counter(); import streamsr; print(time.perf_counter() - t)"
    assert statistics.median(float(_run(code)) for _ in range(5)) < 0.15


def _sources() -> Iterator[tuple[str, Path]]:
    """Module names, as imported, and their files."""
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def _imports(module: str, path: Path) -> Iterator[str]:
    """Absolute names of all that the file imports, inside functions and for type checkers too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


SOURCES = [pytest.param(module, path, id=module) for module, path in _sources() if module != "streamsr"]


def _part(module: str) -> str:
    """Second component of a name under ``streamsr``: "streamsr.io.file" -> "io"."""
    return module.split(".")[1]


@pytest.mark.parametrize(("module", "path"), SOURCES)
def test_nothing_imports_upward(module: str, path: Path) -> None:
    part = _part(module)
    assert part in LEVEL, f"{part} has no place in LAYERS yet"
    used = {_part(name) for name in _imports(module, path) if name.startswith("streamsr.")} & set(LEVEL)
    assert [name for name in sorted(used - {part}) if LEVEL[name] >= LEVEL[part]] == []


@pytest.mark.parametrize(("module", "path"), SOURCES)
def test_source_names_no_forbidden_library(module: str, path: Path) -> None:
    used = {name.partition(".")[0] for name in _imports(module, path)}
    assert not used & NEVER.get(_part(module), set())


def test_imports_are_read_from_all_kinds_of_statements(tmp_path: Path) -> None:
    source = tmp_path / "probe.py"
    source.write_text(
        "import streamsr.clock as c\nfrom ..face import mask\nfrom .. import errors\n"
        "def later():\n    from streamsr.pipeline import Pipeline\n    import torch.nn\n"
    )
    assert {
        "streamsr.clock", "streamsr.face.mask", "streamsr.errors", "streamsr.pipeline", "torch.nn"
    } <= set(_imports("streamsr.io.probe", source))  # fmt: skip


def test_top_level_folders_are_imported_under_streamsr_only() -> None:
    wrong = [
        (module, name)
        for module, path in _sources()
        for name in _imports(module, path)
        if name.partition(".")[0] in ("kernels", "bench")
    ]
    assert wrong == []
