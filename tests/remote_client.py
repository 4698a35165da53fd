"""A camera's process, as far as the model is concerned: a moving portrait through ``CameraEnhancer``.

``python remote_client.py SOCKET NAME OUT FRAMES SEED``: the pictures go to OUT (.npy), and the outcomes to
stdout. FRAMES 0: connects, says so, and waits to be killed.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from media import FACE_PX, moving_portrait

from streamsr.session import Session
from streamsr.watch.camera_enhancer import CameraEnhancer
from streamsr.watch.remote_restorer import RemoteRestorer


def portraits(count: int) -> list[np.ndarray]:
    return [moving_portrait(index, *FACE_PX) for index in range(count)]


def connected(path: Path | str, name: str = "gate", priority: int = 1) -> RemoteRestorer:
    restorer = RemoteRestorer(str(path), name=name, priority=priority)
    assert restorer.connect(time.monotonic_ns() + 20 * 10**9)
    return restorer


@contextmanager
def camera_session(restorer: RemoteRestorer, **options: Any) -> Iterator[Session]:
    enhancer = CameraEnhancer(restorer, roi_px=None, show=lambda before, after, faces_px: None)
    with closing(restorer), closing(enhancer.session(scale=2, **options)) as session:
        yield session


def main(path: str, name: str, out: str, frames: str, seed: str) -> None:
    restorer = connected(path, name)
    if frames == "0":
        print("connected", flush=True)
        time.sleep(600)
    with camera_session(restorer, seed=int(seed)) as session:
        done = [session.process(picture) for picture in portraits(int(frames))]
    np.save(out, np.stack([picture for picture, _ in done]))
    print(*(face.outcome for _, report in done for face in report.faces))
    loaded = {"torch", "openvino"} & sys.modules.keys()
    assert not loaded, loaded


if __name__ == "__main__":
    main(*sys.argv[1:])
