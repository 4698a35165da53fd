"""Each kernel compiles: for every architecture with nvcc, and for the host without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kernel_host import FOLDER, OPS, build

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
_USE = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@pytest.mark.parametrize("op", OPS)
def test_nvcc(op: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With CuPy's option for subnormals; the registers are printed, and nothing is spilled."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH")
    command = ["nvcc", "-std=c++17", "-ftz=true", f"-I{FOLDER}", "-fatbin", "-t0", "-Xptxas=-v"]
    command += ["-Werror", "all-warnings", "-o", str(tmp_path / f"{op}.fatbin")]
    command += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHITECTURES]
    done = subprocess.run(
        [*command, str(FOLDER / op / f"{op}.cu")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    uses = [(found[0], *map(int, found[1:])) for found in _USE.findall(done.stdout + done.stderr)]
    kernels = sorted({kernel for kernel, *_ in uses})
    assert kernels
    assert sorted((kernel, arch) for kernel, arch, *_ in uses) == sorted(
        (kernel, arch) for kernel in kernels for arch in ARCHITECTURES
    )
    with capsys.disabled():
        print(f"\n{op}: registers on {', '.join(f'sm_{arch}' for arch in ARCHITECTURES)}")
        for kernel in kernels:
            registers = {arch: used for name, arch, *_, used in uses if name == kernel}
            print(f"  {kernel:24}", *(f"{registers[arch]:4}" for arch in ARCHITECTURES))
    assert not [use for use in uses if any(use[2:5])], "stack or spilled registers: slow local memory"


@pytest.mark.parametrize("op", OPS)
def test_host(op: str) -> None:
    build(op)
