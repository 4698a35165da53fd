"""The wheel: everything in it, and it works away from the source tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from streamsr.version import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = {"streamsr": "streamsr", "kernels": "streamsr/kernels", "bench": "streamsr/bench"}  # tree -> wheel
DATA = (
    "streamsr/data/*",
    "streamsr/model/packaged/*",
    "streamsr/serve/page/*",
    "streamsr/watch/grafana.json",
    "streamsr/watch/page/*",
    "streamsr/web/page/*",
    "kernels/*.cuh",
    "kernels/**/*.cu",
    "bench/*.css",
    "bench/*.csv",
    "streamsr/py.typed",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools would put a folder ``build`` into the tree, and use it again."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    _python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(tree))
    return next(out.glob("streamsr-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; of this one it sees the libraries, not the editable install."""
    venv = tmp_path_factory.mktemp("venv")
    _python("-m", "venv", "--without-pip", str(venv))
    python = venv / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    _python("-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel))
    (Path(found.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _run(installed: Path, cwd: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [installed / "bin" / program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )


def _in_wheel(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).parts
    return "/".join([FOLDERS[folder], *rest])


def test_every_module_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    wanted = {_in_wheel(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    wanted |= {_in_wheel(path) for pattern in DATA for path in ROOT.glob(pattern) if path.is_file()}
    assert {"streamsr/py.typed", "streamsr/kernels/__init__.py", "streamsr/bench/__init__.py"} < wanted
    assert any(name.endswith(".safetensors") for name in wanted)
    with zipfile.ZipFile(wheel) as archive:
        found = {
            name for name in archive.namelist() if not name.startswith(f"streamsr-{__version__}.dist-info/")
        }
        licence = f"streamsr-{__version__}.dist-info/licenses/LICENSE"
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert found == wanted


def test_wheel_has_no_top_level_folder_but_streamsr(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            "streamsr",
            f"streamsr-{__version__}.dist-info",
        }


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"streamsr-{__version__}.dist-info/METADATA").decode().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Version: {__version__}" in lines
    assert "License-Expression: Apache-2.0" in lines
    assert "Description-Content-Type: text/markdown" in lines
    assert len(
        [line for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    ) == len(project["dependencies"])


def test_installed_version(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "streamsr", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"streamsr {__version__}\n", "")


def test_installed_doctor(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "streamsr", "doctor", "--json")
    document = json.loads(done.stdout)
    rows = {row["name"]: row for row in document["checks"]}
    assert str(installed) in rows["streamsr"]["found"]
    weights = [row for name, row in rows.items() if name.startswith("weights")]
    assert weights
    assert all(row["found"].endswith("sha256 verified") for row in weights)
    assert (done.returncode, document["ok"]) == (0, True), document


def test_installed_packages_import_from_there(installed: Path, tmp_path: Path) -> None:
    code = (
        "import streamsr, streamsr.kernels, streamsr.bench.quality, streamsr.model.weights as weights\n"
        "from importlib.resources import files\n"
        "for found in (streamsr, streamsr.kernels, streamsr.bench, streamsr.bench.quality, weights):\n"
        "    print(found.__file__)\n"
        "print(weights.load_weights().path)\n"
        "print(files('streamsr') / 'data' / 'astronaut.png')\n"
        "print(files('streamsr') / 'py.typed')"
    )
    done = _run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) == 8
    for path in paths:
        assert path.is_relative_to(installed)
        assert path.is_file()
