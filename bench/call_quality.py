"""What a call's viewer received, against the clean scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .call_figures import WARM_UP_S, Taken
from .call_marker import STRIP_PX
from .call_scene import RATE, SCALE, TRUTH_PX, CallScene
from .face_truth import FaceTruth, face_box, face_region
from .fidelity import haarpsi, psnr_y
from .tally import Tally

__all__ = ["measured"]


def measured(scene: CallScene, calls: Mapping[str, Taken]) -> dict[str, dict[str, Any]]:
    """By call: PSNR-Y and HaarPSI of the frame without the marker, and of the face ("face_...").

    Pictures of the camera's size are enlarged by bicubic weights first. The face is where the tracker sees
    it in the clean picture. Raises ConfigError if the viewer kept none.
    """
    kept = {name: _kept(call) for name, call in calls.items()}
    wanted = {which for pictures in kept.values() for which, _ in pictures}
    truths = {which: picture for which, picture in enumerate(scene.truth()) if which in wanted}
    regions = _face_regions(truths)
    frame = np.ones(TRUTH_PX[::-1], np.float32)
    frame[: SCALE * STRIP_PX[1], : SCALE * STRIP_PX[0]] = 0
    tally = Tally()
    for name, pictures in kept.items():
        for which, picture in pictures:
            truth, region = truths[which], regions[which]
            out = picture
            if out.shape != truth.shape:
                out = cv2.resize(out, TRUTH_PX, interpolation=cv2.INTER_CUBIC)
            scores = {"psnr_y": psnr_y(out, truth, frame), "haarpsi": haarpsi(out, truth, frame)}
            if region.any():
                box = face_box(region)
                face, clean, weight = out[box], truth[box], region[box]
                scores["face_psnr_y"] = psnr_y(face, clean, weight)
                scores["face_haarpsi"] = haarpsi(face, clean, weight)
            tally.add((name,), scores)
    return {name: {**tally.means((name,)), "measured": tally.count((name,))} for name in calls}


def _kept(call: Taken) -> list[tuple[int, np.ndarray]]:
    """(which picture of the scene, as received) after the warm-up."""
    which = dict(call.camera["shown"])
    frames = call.viewer["frames"]
    if not frames:
        raise ConfigError("no picture reached the viewer: more --seconds are needed, or a machine less busy")
    from_ms = frames[0][1] + 1e3 * WARM_UP_S
    assert call.kept is not None, "of a call whose pictures were not kept"
    with np.load(call.kept) as file:
        ms, pictures = file["ms"], file["pictures"]
    found = [
        (which[int(shown)], picture)
        for shown, picture in zip(ms, pictures, strict=True)
        if shown >= from_ms and int(shown) in which
    ]
    if not found:
        raise ConfigError("the viewer kept no picture that can be measured: more --seconds are needed")
    return found


def _face_regions(truths: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    from streamsr.face.tracker import MediaPipeTracker

    tracker = MediaPipeTracker()
    try:
        regions = {}
        for which, picture in sorted(truths.items()):
            tracker.reset()
            faces = [FaceTruth(face.landmarks, face.matrix) for face in tracker.track(picture, which / RATE)]
            regions[which] = face_region(faces, picture.shape)
        return regions
    finally:
        tracker.close()
