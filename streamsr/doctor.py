"""What this machine can do for streamsr, and the fix for what it cannot.

Every probe tries the real thing (imports, encodes, multiplies, binds) rather than look up a version.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import numpy as np

from .errors import DeviceError, ModelError
from .machine import cpu_flags, usable_cpus
from .version import __version__

__all__ = ["Check", "core_works", "examine"]

PYTHON = ((3, 11), (3, 12))  # oldest and newest
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that distributions package GStreamer's bindings for
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni", "avx_vnni")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

# what it is for, name in FFmpeg, direction, required
CODECS = (
    ("H264 encode", "libx264", "w", True),
    ("H264 decode", "h264", "r", True),
    ("HEVC decode", "hevc", "r", False),
    ("VP8 encode", "libvpx", "w", False),
    ("VP8 decode", "vp8", "r", False),
    ("FFV1 encode", "ffv1", "w", True),
    ("MJPEG encode", "mjpeg", "w", False),
    ("MJPEG decode", "mjpeg", "r", True),
)
MEDIAPIPE_MODELS = (
    "modules/face_detection/face_detection_full_range_sparse.tflite",
    "modules/face_landmark/face_landmark_with_attention.tflite",
)
GSTREAMER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
for element in ("x264enc", "rtph264pay", "rtph264depay", "avdec_h264"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"no element {element}")
print(Gst.version_string())
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One row. found: what is there, or why not. fix: one line, empty when ok.

    required: without it ``streamsr enhance`` does not work.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = False

    def as_dict(self) -> dict[str, str | bool]:
        return {
            "name": self.name,
            "status": "ok" if self.ok else "missing",
            "found": self.found,
            "fix": self.fix,
            "required": self.required,
        }


def core_works(checks: list[Check]) -> bool:
    return all(check.ok for check in checks if check.required)


def examine() -> list[Check]:
    """All rows, in the order they are shown. Takes some seconds: the libraries are really loaded."""
    return [check for probe in PROBES for check in probe()]


def _machine() -> Iterator[Check]:
    found = f"{platform.python_version()} ({sys.executable})"
    oldest, newest = (".".join(map(str, version)) for version in PYTHON)
    supported = PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]
    yield Check("python", supported, found, "" if supported else f"use Python {oldest} to {newest}", True)
    yield Check("streamsr", True, f"{__version__} in {Path(__file__).parent}")
    yield Check("platform", True, platform.platform())
    yield Check("cores", True, f"{usable_cpus()} usable of {os.cpu_count()}")
    flags = cpu_flags()
    if flags:
        yield Check("cpu flags", True, ", ".join(f"{f} {'yes' if f in flags else 'no'}" for f in CPU_FLAGS))


def _imported(module: str, name: str, fix: str, required: bool = False) -> Check:
    """Really import it; the row carries its version or what went wrong."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return Check(name, False, f"not installed ({error.name})", fix, required)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # how native libraries fail
        return Check(name, False, _one_line(error), fix, required)
    return Check(name, True, getattr(found, "__version__", "version unknown"), required=required)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _torch() -> Iterator[Check]:
    row = _imported("torch", "torch", "pip install torch==2.13.0", required=True)
    if not row.ok:
        yield row
        return
    import torch

    yield Check(
        "torch", True, f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}", required=True
    )
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        yield Check("device", True, f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    elif NVIDIA_DRIVER.exists():
        fix = "install a CUDA build of torch that the driver can run, or use --device cpu"
        yield Check("device", False, "an NVIDIA driver is here, but torch finds no GPU: cpu", fix)
    else:
        yield Check("device", True, f"cpu, {torch.get_num_threads()} threads (no NVIDIA driver)")
    plain_ms, half_ms = (_matmul_ms(dtype) for dtype in (torch.float32, torch.bfloat16))
    found = f"{plain_ms / half_ms:.1f}x the speed of float32 on the cpu ({half_ms:.2f} ms, {plain_ms:.2f} ms)"
    yield Check("bf16", True, found)


def _openvino() -> Iterator[Check]:
    fix = "pip install 'openvino>=2026.4,<2027'"
    try:
        from .model.openvino_graph import load_openvino

        library = load_openvino()
        core = library.Core()
        found = f"{library.__version__.partition('-')[0]}, {core.get_property('CPU', 'FULL_DEVICE_NAME')}"
    except (ImportError, DeviceError, RuntimeError) as error:  # the last: no device CPU
        yield Check("openvino", False, _one_line(error), fix, True)
    else:
        yield Check("openvino", True, f"{found}{_precision(core)}", required=True)


def _precision(core: object) -> str:
    """In which the packaged weights would run on the cpu. That they are missing is said in another row."""
    from .model.openvino_engine import cpu_precision
    from .model.weights import load_weights

    try:
        return f", in {cpu_precision(core, load_weights())}"
    except ModelError:
        return ""


def _matmul_ms(dtype: object) -> float:
    """Median time of a product the size of one layer over a face: (512, 1024) x (1024, 1024)."""
    import torch

    a, b = (torch.ones(shape, dtype=dtype) for shape in ((512, 1024), (1024, 1024)))  # type: ignore[call-overload]
    samples = []
    for _ in range(13):
        began = time.perf_counter()
        torch.mm(a, b)
        samples.append(1e3 * (time.perf_counter() - began))
    return statistics.median(samples[3:])  # the first ones warm up


def _media() -> Iterator[Check]:
    row = _imported("av", "av", "pip install 'av>=17,<19'", required=True)
    if not row.ok:
        yield row
        return
    import av

    yield Check(
        "av", True, f"{av.__version__}, FFmpeg {getattr(av, 'ffmpeg_version_info', 'unknown')}", required=True
    )
    for name, codec, mode, required in CODECS:
        fix = f"install a build of PyAV whose FFmpeg has {codec} (pip install --force-reinstall av)"
        try:
            found = _open_codec(codec, mode)
        except (av.FFmpegError, ValueError) as error:  # UnknownCodecError is a ValueError
            yield Check(name, False, _one_line(error), fix, required)
        else:
            yield Check(name, True, found, required=required)


def _open_codec(name: str, mode: str) -> str:
    """Encoders encode a picture; decoders are opened."""
    import av

    if mode == "r":
        av.CodecContext.create(name, "r").open()
        return name
    from av.video.codeccontext import VideoCodecContext

    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height, codec.time_base = 64, 64, Fraction(1, 25)
    codec.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(
        format=codec.pix_fmt
    )
    frame.pts, frame.time_base = 0, codec.time_base
    size = sum(packet.size for picture in (frame, None) for packet in codec.encode(picture))
    if size == 0:
        raise ValueError(f"{name} encoded nothing")
    return name


def _hardware() -> Iterator[Check]:
    """Codecs of GPUs and other chips."""
    try:
        from .io.hardware import DEVICES, ENCODERS, decoding_fails, encoding_fails
    except ImportError:  # av, of which another row tells
        return
    rows = [(f"{device} decode", decoding_fails(device)) for device in DEVICES]
    rows += [(f"{name} encode", encoding_fails(name)) for name in (*ENCODERS, "h264_v4l2m2m")]
    for name, reason in rows:
        fix = "needs such a device and its driver; without it the CPU does it" if reason else ""
        yield Check(name, not reason, reason or "a picture went through", fix)


def _faces() -> Iterator[Check]:
    headless = (
        "pip uninstall -y opencv-contrib-python; pip install --force-reinstall --no-deps {0}-headless=={1}"
    )
    try:
        import cv2

        yield Check("opencv", True, cv2.__version__, required=True)
    except ModuleNotFoundError:
        yield Check("opencv", False, "not installed", "pip install mediapipe==0.10.21", True)
    except ImportError as error:  # libGL.so.1 and the like: the build for desktops on a machine without
        fix = headless.format("opencv-contrib-python", _version_of("opencv-contrib-python") or "4.11.0.86")
        yield Check("opencv", False, _one_line(error), fix, True)
    row = _imported("mediapipe", "mediapipe", "pip install mediapipe==0.10.21", required=True)
    yield row
    if row.ok:
        root = Path(importlib.import_module("mediapipe").__file__ or "").parent
        absent = [model for model in MEDIAPIPE_MODELS if not (root / model).is_file()]
        found = f"no {', '.join(absent)}" if absent else f"{len(MEDIAPIPE_MODELS)} bundled"
        fix = (
            "pip install --force-reinstall mediapipe==0.10.21 (later ones bundle no models)" if absent else ""
        )
        yield Check("mediapipe models", not absent, found, fix, True)


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _weights() -> Iterator[Check]:
    try:
        from .model.weights import MANIFEST, packaged_path
    except ImportError as error:  # torch or safetensors
        yield Check("weights", False, _one_line(error), "pip install torch==2.13.0 safetensors", True)
        return
    fix = "pip install --force-reinstall --no-deps streamsr"
    try:
        presets = list(json.loads(MANIFEST.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        yield Check("weights", False, _one_line(error), fix, True)
        return
    for preset in presets:
        try:
            path = packaged_path(preset)
        except ModelError as error:
            yield Check(f"weights {preset}", False, str(error), fix, True)
        else:
            yield Check(f"weights {preset}", True, f"{path.name}, sha256 verified", required=True)


def _extras() -> Iterator[Check]:
    with_gpu = "(only with an NVIDIA GPU)"
    yield _imported("cupy", "cupy", f"pip install 'streamsr[cuda]' {with_gpu}")
    yield _imported("torch_tensorrt", "torch-tensorrt", f"pip install 'streamsr[tensorrt]' {with_gpu}")


def _network() -> Iterator[Check]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        yield Check("tcp ports", True, f"a server on 127.0.0.1 answers (tried {port})")
    except OSError as error:
        yield Check("tcp ports", False, _one_line(error), "allow TCP on the loopback interface")
    try:
        low = _rtp_pair()
        yield Check(
            "udp ports", True, f"a pair for RTP and RTCP binds, datagrams arrive (tried {low}, {low + 1})"
        )
    except OSError as error:
        fix = "allow UDP, or keep to --rtsp-transport tcp"
        yield Check("udp ports", False, _one_line(error), fix)
    for name in ("aiortc", "aiohttp"):
        yield _imported(name, name, f"pip install {name}", required=True)
    try:
        from aioice.ice import get_host_addresses
    except ImportError:
        return  # the row of aiortc says so
    addresses = get_host_addresses(use_ipv4=True, use_ipv6=True)
    fix = (
        ""
        if addresses
        else "ICE leaves out 127.0.0.1: connect a network (ip address add 10.77.0.1/32 dev lo)"
    )
    yield Check("ice addresses", bool(addresses), ", ".join(addresses) or "loopback only", fix)


def _rtp_pair() -> int:
    """The even one of two neighbouring UDP ports that bind and receive. Raises OSError."""
    refused = OSError("no two neighbouring UDP ports could be bound")
    for _ in range(20):
        with socket.socket(type=socket.SOCK_DGRAM) as rtp, socket.socket(type=socket.SOCK_DGRAM) as rtcp:
            rtp.bind(("127.0.0.1", 0))
            low = int(rtp.getsockname()[1])
            if low % 2:
                continue
            try:
                rtcp.bind(("127.0.0.1", low + 1))
            except OSError as error:  # taken: try another pair
                refused = error
                continue
            rtp.settimeout(2)
            rtcp.sendto(b"rtp", ("127.0.0.1", low))
            rtp.recv(3)
            return low
    raise refused


def _rtsp_server() -> Iterator[Check]:
    name, fix = "gstreamer rtsp server", "make test-deps (only tests use it)"
    try:
        done = subprocess.run(
            [SYSTEM_PYTHON, "-c", GSTREAMER],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Check(name, False, _one_line(error), fix)
        return
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [""]
    yield Check(name, done.returncode == 0, lines[-1], "" if done.returncode == 0 else fix)


PROBES: tuple[Callable[[], Iterator[Check]], ...] = (
    _machine,
    _torch,
    _openvino,
    _media,
    _hardware,
    _faces,
    _weights,
    _extras,
    _network,
    _rtsp_server,
)
