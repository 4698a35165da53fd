"""Each kernel compiles: with nvcc for every architecture, as CuPy does it, and for the host, warning-free."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kernel_host import FOLDER, OPS, build

from streamsr.kernels import launch

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


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    """The library of the wheel that CuPy uses too."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = [path for folder in folders for path in folder.glob("cu13/lib/libnvrtc.so.13")]
    if not found:
        pytest.skip("no nvidia-cuda-nvrtc: pip install 'streamsr[dev]'")
    for builtins in found[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))  # where it looks for it afterwards
    return ctypes.CDLL(str(found[0]))


@pytest.mark.parametrize("arch", [75, 90, 120])
@pytest.mark.parametrize("op", OPS)
def test_nvrtc(op: str, arch: int) -> None:
    """With the options that CuPy adds, and without any header but ours."""
    library, program, size = _nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    source = (FOLDER / op / f"{op}.cu").read_bytes()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source, b"kernel.cu", 0, None, None) == 0
    more = ("-ftz=true", "--device-as-default-execution-space", f"-arch=sm_{arch}")
    options = [option.encode() for option in (*launch.OPTIONS, *more)]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert not failed and not log.value, log.value.decode()
    assert size.value > 1000


@pytest.mark.parametrize("op", OPS)
def test_host(op: str) -> None:
    build(op)
