import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from streamsr.errors import FrameError
from streamsr.face.alignment import TEMPLATE_FIVE, native_side
from streamsr.face.landmarks import five_points
from streamsr.face.mesh import FaceNetworks
from streamsr.face.regions import tiles
from streamsr.face.tracker import MediaPipeTracker

FPS = 30
FACE = (224.0, 120.0)  # centre of the face in scikit-image's astronaut (public domain, NASA), 512 px


@pytest.fixture(scope="module")
def tracker():
    shared = MediaPipeTracker(max_faces=4)
    yield shared
    shared.close()


@pytest.fixture(autouse=True)
def _forget(tracker):
    tracker.reset()


def scene(*places: tuple[float, float, float], size: tuple[int, int] = (640, 360)) -> np.ndarray:
    """A grey room with the astronaut's head at each place: centre x, y and width of the face in px."""
    width, height = size
    room = np.linspace(60, 110, width, dtype=np.float32)[None, :, None].repeat(height, 0).repeat(3, 2)
    room = np.ascontiguousarray(room)
    portrait = np.ascontiguousarray(data.astronaut()[20:250, 120:330]).astype(np.float32)
    y, x = np.mgrid[: portrait.shape[0], : portrait.shape[1]]
    distance = np.hypot((x - 104) / 95, (y - 105) / 105)
    alpha = np.clip((1.0 - distance) / 0.12, 0, 1).astype(np.float32)
    for centre_x, centre_y, face_px in places:
        k = face_px / 90  # the mesh of this face is about 90 px wide
        place = np.array([[k, 0, centre_x - 104 * k], [0, k, centre_y - 100 * k]], np.float32)
        shrunk, small_alpha = portrait, alpha
        if k < 0.7:
            shrunk = cv2.GaussianBlur(portrait, (0, 0), 0.45 / k)
        layer = cv2.warpAffine(shrunk, place, size, flags=cv2.INTER_LINEAR)
        cover = cv2.warpAffine(small_alpha, place, size, flags=cv2.INTER_LINEAR)[..., None]
        room = room * (1 - cover) + layer * cover
    return np.clip(np.round(room), 0, 255).astype(np.uint8)


def centre(face) -> np.ndarray:
    return face.landmarks[:468].min(0) / 2 + face.landmarks[:468].max(0) / 2


def test_one_moving_face_keeps_its_identity_and_its_crop_follows(tracker):
    ids, fresh, blends = set(), [], []
    for i in range(40):
        x, y = 200 + 5 * i, 170 + 40 * np.sin(i / 7)
        faces = tracker.track(scene((x, y, 110)), i / FPS)
        assert len(faces) == 1
        face = faces[0]
        ids.add(face.track_id)
        fresh.append(face.fresh)
        blends.append(face.blend)
        assert np.abs(centre(face) - (x, y)).max() < 25
        seen = five_points(face.landmarks) @ face.matrix[:, :2].T + face.matrix[:, 2]
        assert np.abs(seen - TEMPLATE_FIVE).mean() < 12  # this face smiles
        assert native_side(face.matrix) == pytest.approx(1.7 * 110, rel=0.2)
        rx, ry, rw, rh = face.roi_px
        assert rx >= 0 and rx + rw <= 640 and ry >= 0 and ry + rh <= 360
        assert 90 < rw < 140 and 90 < rh < 160
        assert face.landmarks.shape == (478, 2) and face.landmarks.dtype == np.float32
        assert face.matrix.shape == (2, 3) and face.matrix.dtype == np.float64
    assert len(ids) == 1
    assert fresh == [True] + [False] * 39
    assert min(blends) > 0.9
    assert abs(face.yaw_deg) < 25


def test_alignment_of_a_still_face_does_not_tremble(tracker):
    rng = np.random.default_rng(0)
    corners = []
    for i in range(30):
        noisy = np.clip(scene((320, 180, 110)) + rng.normal(0, 4, (360, 640, 3)), 0, 255).astype(np.uint8)
        (face,) = tracker.track(noisy, i / FPS)
        corners.append(face.matrix @ [320, 180, 1])
    assert np.abs(np.diff(corners[5:], axis=0)).max() < 2.0  # px of the 512 template: 0.7 px here


def test_two_faces_have_two_identities_and_keep_them(tracker):
    first = tracker.track(scene((180, 170, 100), (470, 190, 90)), 0.0)
    assert len(first) == 2
    left, right = sorted(first, key=lambda face: centre(face)[0])
    assert left.track_id != right.track_id
    for i in range(1, 20):
        faces = tracker.track(scene((180 + 3 * i, 170, 100), (470 - 3 * i, 190, 90)), i / FPS)
        assert [face.track_id for face in sorted(faces, key=lambda face: centre(face)[0])] == [
            left.track_id,
            right.track_id,
        ]
        assert not any(face.fresh for face in faces)


def test_crossing_faces_never_share_or_swap_identities(tracker):
    """The larger face passes in front of the other, which has its old identity afterwards or a new one."""
    front = back = None
    for i in range(60):
        near, far = 140 + 6 * i, 470 - 5 * i
        faces = tracker.track(scene((far, 170, 70), (near, 180, 110)), i / FPS)
        assert len({face.track_id for face in faces}) == len(faces) <= 2
        large = [face for face in faces if face.roi_px[2] > 92]
        small = [face for face in faces if face.roi_px[2] <= 92]
        if i == 0:
            front, back = large[0].track_id, small[0].track_id
        for face in large:
            assert face.track_id == front
        for face in small:
            assert face.track_id != front
    assert len(large) == 1 and len(small) == 1
    assert back is not None


def test_a_face_that_returns_soon_is_the_same_and_starts_anew(tracker):
    (before,) = tracker.track(scene((320, 180, 100)), 0.0)
    tracker.track(scene((320, 180, 100)), 1 / FPS)
    for i in range(2, 14):
        assert tracker.track(scene(), i / FPS) == [] or i < 3
    seen = [tracker.track(scene((335, 185, 100)), i / FPS) for i in range(14, 24)]
    back = [faces for faces in seen if faces]
    assert len(back) >= 7  # found within three frames
    assert back[0][0].track_id == before.track_id
    assert back[0][0].fresh and not back[1][0].fresh


def test_a_face_that_returns_late_or_elsewhere_is_another(tracker):
    (before,) = tracker.track(scene((160, 180, 100)), 0.0)
    for i in range(1, 45):
        gone = tracker.track(scene(), i / FPS)
    assert gone == []
    late = [face for i in range(45, 57) for face in tracker.track(scene((160, 180, 100)), i / FPS)]
    assert late and late[0].track_id > before.track_id and late[0].fresh
    tracker.track(scene(), 57 / FPS)
    tracker.track(scene(), 58 / FPS)
    away = [face for i in range(59, 75) for face in tracker.track(scene((500, 180, 100)), i / FPS)]
    assert away and {face.track_id for face in away}.isdisjoint({before.track_id, late[0].track_id})


def test_effect_of_a_face_that_comes_in_fades_in(tracker):
    blends = []
    for i in range(45):
        x = -90 + min(11 * i, 400)  # from outside the frame to its middle
        blends += [face.blend for face in tracker.track(scene((x, 180, 100)), i / FPS)]
    assert len(blends) > 12
    assert blends[0] < 0.5 and blends[-1] > 0.95
    assert max(np.diff([0.0, *blends])) < 0.25


def test_a_face_that_vanishes_leaves_an_empty_list(tracker):
    assert len(tracker.track(scene((320, 180, 100)), 0.0)) == 1
    tracker.track(scene(), 1 / FPS)
    assert tracker.track(scene(), 2 / FPS) == []


def test_reset_gives_new_identities(tracker):
    (before,) = tracker.track(scene((320, 180, 100)), 0.0)
    tracker.reset()
    (after,) = tracker.track(scene((320, 180, 100)), 1 / FPS)
    assert after.track_id > before.track_id
    assert after.fresh and after.blend > 0.9


def test_time_that_runs_back_and_a_new_frame_size_reset(tracker):
    (a,) = tracker.track(scene((320, 180, 100)), 5.0)
    (b,) = tracker.track(scene((320, 180, 100)), 1.0)
    (c,) = tracker.track(scene((320, 180, 100), size=(500, 340)), 1.1)
    assert a.track_id < b.track_id < c.track_id


@pytest.mark.parametrize(
    ("size", "face_px"), [((640, 360), 24), ((640, 360), 32), ((640, 360), 60), ((1280, 720), 48)]
)
def test_small_faces_are_found(tracker, size, face_px):
    place = (0.7 * size[0], 0.35 * size[1])
    (face,) = tracker.track(scene((*place, face_px), size=size), 0.0)
    assert np.abs(centre(face) - place).max() < 0.3 * face_px
    assert face.roi_px[2] == pytest.approx(face_px, rel=0.25)


def test_a_face_of_nobody_is_not_required(tracker):
    faces = tracker.track(scene((320, 180, 8)), 0.0)  # a few px: found or not, nothing breaks
    assert all(face.roi_px[2] < 24 for face in faces)


def test_at_most_max_faces():
    one = MediaPipeTracker(max_faces=1)
    faces = one.track(scene((180, 170, 80), (470, 190, 110)), 0.0)
    assert len(faces) == 1
    assert faces[0].roi_px[2] > 95  # the larger
    one.close()
    with pytest.raises(ValueError, match="max_faces"):
        MediaPipeTracker(max_faces=0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 900, 3), (16, 16, 3), (360, 640, 3), (101, 33, 3)])
def test_frames_without_faces(tracker, shape):
    for i in range(3):
        assert tracker.track(np.zeros(shape, np.uint8), i / FPS) == []
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert tracker.track(noise, 1.0) == []


def test_frames_that_are_none_are_refused(tracker):
    with pytest.raises(FrameError, match=r"\(H, W, 3\)"):
        tracker.track(np.zeros((20, 20), np.uint8), 0.0)


def test_a_face_half_out_of_the_frame_is_less_sure(tracker):
    (whole,) = tracker.track(scene((320, 180, 110)), 0.0)
    assert whole.confidence > 0.95
    tracker.reset()
    confidences = []
    for i in range(60):
        for face in tracker.track(scene((320 - 6.5 * i, 180, 110)), i / FPS):
            confidences.append((320 - 6.5 * i, face.confidence, face.blend))
    sure = [c for x, c, _ in confidences if x > 80]
    out = [c for x, c, _ in confidences if x < -5]
    assert min(sure) > 0.9
    assert not out or max(out) < 0.5
    assert np.abs(np.diff([b for _, _, b in confidences])).max() < 0.25


def test_an_occluder_lowers_the_confidence_smoothly(tracker):
    seen = []
    for i in range(60):
        frame = scene((320, 180, 120))
        hand = min(max(i - 12, 0) * 8, 150)  # rises from below the chin
        frame[270 - hand : 300, 230:410] = (172, 126, 104)
        seen += [(i, face.confidence, face.blend) for face in tracker.track(frame, i / FPS)]
    assert min(c for i, c, _ in seen if i < 12) > 0.9
    covered = [c for i, c, _ in seen if i > 50]
    assert not covered or max(covered) < 0.4
    assert np.abs(np.diff([b for _, _, b in seen])).max() < 0.25


def test_what_mediapipe_says_at_start_stays_off_stderr_and_the_rest_does_not():
    code = (
        "import os, threading, time\n"
        "from streamsr.face.mesh import FaceNetworks\n"
        "stop = threading.Event()\n"
        "def write():\n"
        "    while not stop.is_set():\n"
        "        os.write(2, b'mine\\n'); time.sleep(0.01)\n"
        "thread = threading.Thread(target=write); thread.start()\n"
        "FaceNetworks().close(); stop.set(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) > 5
    assert set(lines) == {"mine"}


def test_importing_the_package_and_the_tracker_loads_no_mediapipe():
    code = "import sys, streamsr.face, streamsr.face.tracker; assert 'mediapipe' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_mesh_of_a_crop_and_closing_twice():
    networks = FaceNetworks()
    image = data.astronaut()
    (found,) = [d for d in networks.detect(image) if d.score > 0.6]
    assert np.abs(found.box[:2] + found.box[2:] / 2 - FACE).max() < 15
    assert found.eyes[0, 0] < found.eyes[1, 0]
    crop = cv2.resize(image[30:210, 134:314], (192, 192))
    points, presence = networks.mesh(np.ascontiguousarray(crop))
    assert presence > 0.9
    assert points.shape == (478, 3)
    assert points[:, :2].min() > 20 and points[:, :2].max() < 175
    _, nothing = networks.mesh(np.zeros((192, 192, 3), np.uint8))
    assert nothing < 0.1
    networks.close()
    networks.close()


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (1280, 720), (97, 33), (4096, 2160), (16, 16)])
def test_tiles_cover_the_frame(size):
    width, height = size
    covered = np.zeros((height, width), bool)
    parts = tiles(width, height)
    assert parts[0] == (0, 0, width, height)
    assert len(parts) < 24
    for x, y, w, h in parts:
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
    for x, y, w, h in parts[1:]:
        covered[y : y + h, x : x + w] = True
    assert covered.all() or len(parts) == 1
