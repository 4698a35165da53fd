"""How long a picture takes from camera to viewer, and where: ``python demos/latency.py [SECONDS]``."""

import sys

from streamsr.bench.call import run

WHAT = {
    "algorithmic": "pictures it waits for",
    "compute": "tracking, restoring, compositing",
    "waiting": "for a thread",
    "codec": "two encoders, two decoders",
    "transport": "packets, jitter buffers, event loops",
}


def main(seconds: float = 10) -> None:
    print(f"two calls of {seconds:g} s between three processes: camera, streamsr, viewer")
    head, (enhanced, relayed) = run(seconds=seconds)
    for name, row in (("enhanced to 1280x720", enhanced), ("relayed at 640x360", relayed)):
        glass = row["glass_to_glass_ms"]
        print(
            f"{name:>22}: {glass['p50']:6.1f} ms glass to glass, p95 {glass['p95']:.1f}, {row['fps']:.1f} fps"
        )
    for name, ms in head["split_ms"].items():
        print(f"{name:>22}: {ms:6.1f} ms {'#' * round(ms / 2):40} {WHAT[name]}")
    print(f"faces restored: {head['restored_share']:.0%}; sound off by {head['lip_sync_ms']:+.0f} ms")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
