"""A real evidence recording, made once a module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evidence_recording import COUNT, EACH_KEYFRAME, GOP, SIZE, record
from media import moving_portrait, write_video

from streamsr import Enhancer
from streamsr.evidence.keys import make_key


@pytest.fixture(scope="module")
def enhancer():
    with Enhancer(device="cpu") as made:
        yield made


@pytest.fixture(scope="module")
def recording(tmp_path_factory, enhancer) -> Path:
    """Two segments of 8 frames each, every line signed; key.pem and in.mp4 beside them."""
    folder = tmp_path_factory.mktemp("evidence")
    make_key(folder / "key.pem")
    options = {"g": str(GOP), "bf": "0", "sc_threshold": "0"}
    write_video(folder / "in.mp4", count=COUNT, size=SIZE, picture_of=moving_portrait, options=options)
    record(folder / "in.mp4", folder / "gate", folder / "key.pem", enhancer, limits=EACH_KEYFRAME)
    assert len(list((folder / "gate").iterdir())) == 6
    return folder


@pytest.fixture
def copy(recording, tmp_path) -> Path:
    """The folder of the two segments, to be tampered with."""
    return Path(shutil.copytree(recording / "gate", tmp_path / "gate"))
