"""The demo's pictures: what stands where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamsr.side_by_side import FILM_SIZE, Film, Moment, contact_sheet, face_view

CAPTIONS = ["in", "bicubic", "out"]


def plain(side: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


@pytest.fixture
def moment() -> Moment:
    """Each picture of one colour, so that it can be found again."""
    return Moment(
        camera=plain(256, (200, 0, 0)),
        bicubic=plain(512, (0, 200, 0)),
        out=plain(512, (0, 0, 200)),
        truth=plain(512, (200, 200, 0)),
        face_px=(230.0, 130.0),
        note="1.00 s   frame 25",
    )


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Number of px of exactly ``colour``."""
    return int((picture == np.array(colour, np.uint8)).all(2).sum())


def test_film_shows_in_bicubic_and_out(moment: Moment) -> None:
    film = Film("title", "subtitle", CAPTIONS, [("Live", [("rate", "25 fps")])])
    picture = film.draw(moment)
    assert picture.shape == (FILM_SIZE[1], FILM_SIZE[0], 3) and picture.dtype == np.uint8
    whole, face = 512 * 512, 512 * 384
    assert share(picture, (200, 0, 0)) == whole + face
    assert share(picture, (0, 200, 0)) == whole + face
    assert share(picture, (0, 0, 200)) == whole + face
    assert share(picture, (200, 200, 0)) == 0  # the clean sample is for the sheet


def test_film_pictures_do_not_leave_traces_in_each_other(moment: Moment) -> None:
    film = Film("title", "subtitle", CAPTIONS, [])
    first = film.draw(moment)
    again = film.draw(moment)
    assert np.array_equal(first, again)
    other = film.draw(
        Moment(moment.camera, moment.bicubic, moment.out, moment.truth, (1.0, 1.0), "another note")
    )
    changed = np.argwhere((first != other).any(2))
    assert len(changed) and changed[:, 0].min() > FILM_SIZE[1] - 40  # the note, at the foot


def test_film_title_and_facts_are_drawn(moment: Moment) -> None:
    bare = Film("", "", ["", "", ""], []).draw(moment)
    titled = Film("streamsr", "", ["", "", ""], [("Live", [("rate", "25 fps")])]).draw(moment)
    rows, columns = np.nonzero((bare != titled).any(2))
    assert ((rows < 60) & (columns < 400)).sum() > 200
    assert ((rows > 100) & (columns > 1600)).sum() > 200


def test_the_camera_is_shown_in_squares(moment: Moment) -> None:
    rng = np.random.default_rng(0)
    camera = rng.integers(0, 256, (256, 256, 3), np.uint8)
    picture = Film("", "", CAPTIONS, []).draw(
        Moment(camera, moment.bicubic, moment.out, moment.truth, moment.face_px, "")
    )
    squares = np.repeat(np.repeat(camera, 2, 0), 2, 1)
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(picture, squares, cv2.TM_SQDIFF))
    assert np.array_equal(picture[y : y + 512, x : x + 512], squares)


def test_contact_sheet_has_a_row_for_each_moment(moment: Moment) -> None:
    one = contact_sheet("title", "subtitle", [*CAPTIONS, "truth"], [moment])
    four = contact_sheet("title", "subtitle", [*CAPTIONS, "truth"], [moment] * 4)
    assert one.shape[1] == four.shape[1] == 2168
    for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)):
        assert share(one, colour) == 512 * 512 + 512 * 340
        assert share(four, colour) == 512 * 512 + 4 * 512 * 340


@pytest.mark.parametrize("centre", [(40.0, 30.0), (40.25, 30.5)])
def test_face_view_is_centred(centre: tuple[float, float]) -> None:
    y, x = np.mgrid[:80, :90]
    blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 50)
    view = face_view(np.repeat((blob * 255).astype(np.uint8)[..., None], 3, 2), centre, (101, 81), 3.0)
    assert view.shape == (81, 101, 3)
    weight = view[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:81, :101]
    assert abs((weight * columns).sum() / weight.sum() - 50) < 0.3
    assert abs((weight * rows).sum() / weight.sum() - 40) < 0.3
