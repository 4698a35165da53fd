"""A camera's process, as far as the model is concerned: a moving portrait through ``RemoteEnhancer``.

``python remote_client.py SOCKET NAME OUT FRAMES SEED``: the pictures go to OUT (.npy), and the outcomes to
stdout. FRAMES 0: connects, says so, and waits to be killed.
"""

import sys
import time
from contextlib import closing

import numpy as np
from media import FACE_PX, moving_portrait

from streamsr.watch.remote import RemoteEnhancer


def portraits(count: int) -> list[np.ndarray]:
    return [moving_portrait(index, *FACE_PX) for index in range(count)]


def main(path: str, name: str, out: str, frames: str, seed: str) -> None:
    with closing(RemoteEnhancer(path, name=name, wait_s=20)) as enhancer:
        if frames == "0":
            print("connected", flush=True)
            time.sleep(600)
        with closing(enhancer.session(scale=2, seed=int(seed))) as session:
            done = [session.process(picture) for picture in portraits(int(frames))]
    np.save(out, np.stack([picture for picture, _ in done]))
    print(*(face.outcome for _, report in done for face in report.faces))
    loaded = {"torch", "openvino"} & sys.modules.keys()
    assert not loaded, loaded


if __name__ == "__main__":
    main(*sys.argv[1:])
