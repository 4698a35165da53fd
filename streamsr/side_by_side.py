"""Pictures that show in, bicubic and out next to each other: the demo's film and its contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["FILM_SIZE", "Facts", "Film", "Moment", "contact_sheet", "face_view"]

Facts = list[tuple[str, list[tuple[str, str]]]]  # heading, then lines of label and value

FILM_SIZE = (1920, 1080)  # width, height

GROUND = (13, 17, 23)
BAND = (22, 30, 42)
ACCENT = (88, 178, 255)
BRIGHT = (236, 241, 247)
MUTED = (148, 160, 176)

HEADER_PX = 92
GAP_PX = 24
PANEL_PX = 512
CAPTION_PX = 40
FACE_HEIGHT_PX = 384
FACE_ZOOM = 2.5  # of output px: 5 of the camera's at scale 2


@dataclass(frozen=True, slots=True)
class Moment:
    """The same instant seen four ways. All (H, W, 3) uint8 RGB; camera smaller by the scale.

    face_px: x, y of the middle of the face in px of the larger pictures. truth: for the sheet; the
    film does not show it.
    """

    camera: np.ndarray
    bicubic: np.ndarray
    out: np.ndarray
    truth: np.ndarray | None
    face_px: tuple[float, float]
    note: str

    @property
    def large(self) -> list[np.ndarray]:
        """All but the camera's."""
        return [image for image in (self.bicubic, self.out, self.truth) if image is not None]


class Film:
    """Draws one picture of the film per moment; what never changes is drawn once.

    title, subtitle: the header. captions: of the three panels. facts: the column on the right.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        captions: Sequence[str],
        facts: Facts,
    ) -> None:
        width = FILM_SIZE[0]
        sheet = Image.new("RGB", FILM_SIZE, GROUND)
        draw = ImageDraw.Draw(sheet)
        _header(draw, width, title, subtitle)
        self._left = [GAP_PX + i * (PANEL_PX + GAP_PX) for i in range(3)]
        self._top = HEADER_PX + CAPTION_PX
        self._face_top = self._top + PANEL_PX + 16
        self._note_top = self._face_top + FACE_HEIGHT_PX + 6
        for left, caption, colour in zip(self._left, captions, (MUTED, MUTED, ACCENT), strict=True):
            draw.text((left, HEADER_PX + 20), caption, colour, _font(22), anchor="lm")
        _facts(draw, self._left[2] + PANEL_PX + GAP_PX + 8, self._top, width - GAP_PX, facts)
        self._base = np.asarray(sheet)

    def draw(self, moment: Moment) -> np.ndarray:
        """(1080, 1920, 3) uint8 RGB."""
        canvas = self._base.copy()
        moment = replace(moment, truth=None)
        size = (PANEL_PX, FACE_HEIGHT_PX)
        for left, panel, face in zip(self._left, _panels(moment), _faces(moment, size), strict=True):
            canvas[self._top : self._top + PANEL_PX, left : left + PANEL_PX] = panel
            canvas[self._face_top : self._face_top + FACE_HEIGHT_PX, left : left + PANEL_PX] = face
        note = Image.new("RGB", (3 * PANEL_PX, 26), GROUND)
        ImageDraw.Draw(note).text((0, 13), moment.note, MUTED, _font(18), anchor="lm")
        canvas[self._note_top : self._note_top + 26, GAP_PX : GAP_PX + 3 * PANEL_PX] = np.asarray(note)
        return canvas


def contact_sheet(
    title: str, subtitle: str, captions: Sequence[str], moments: Sequence[Moment]
) -> np.ndarray:
    """One moment in full, then the face at every moment; four columns: in, bicubic, out, truth.

    captions: of the four columns. moments: at least one, with their truth. Returns (H, 2168, 3) uint8
    RGB.
    """
    face_size = (PANEL_PX, 340)
    width = GAP_PX + 4 * (PANEL_PX + GAP_PX)
    top = HEADER_PX + CAPTION_PX
    row_px = face_size[1] + 32
    height = top + PANEL_PX + 8 + len(moments) * row_px + GAP_PX
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, width, title, subtitle)
    left = [GAP_PX + i * (PANEL_PX + GAP_PX) for i in range(4)]
    for x, caption, colour in zip(left, captions, (MUTED, MUTED, ACCENT, MUTED), strict=True):
        draw.text((x, HEADER_PX + 20), caption, colour, _font(22), anchor="lm")
    for x, panel in zip(left, _panels(moments[len(moments) // 2]), strict=True):
        sheet.paste(Image.fromarray(panel), (x, top))
    for row, moment in enumerate(moments):
        y = top + PANEL_PX + 8 + row * row_px
        draw.text((GAP_PX, y + 16), moment.note, MUTED, _font(18), anchor="lm")
        for x, face in zip(left, _faces(moment, face_size), strict=True):
            sheet.paste(Image.fromarray(face), (x, y + 32))
    return np.array(sheet)


def face_view(
    image: np.ndarray,
    centre_px: tuple[float, float],
    size: tuple[int, int],
    zoom: float,
    interpolation: int = cv2.INTER_CUBIC,
) -> np.ndarray:
    """``size`` (width, height) px cut from ``image`` around ``centre_px``, enlarged ``zoom`` times."""
    width, height = size
    x, y = centre_px
    to_view = np.array(
        [[zoom, 0, (width - 1) / 2 - zoom * x], [0, zoom, (height - 1) / 2 - zoom * y]], np.float64
    )
    return cv2.warpAffine(image, to_view, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def _panels(moment: Moment) -> list[np.ndarray]:
    """The four pictures at panel size; the camera's pixels stay squares."""
    size = (PANEL_PX, PANEL_PX)
    camera = cv2.resize(moment.camera, size, interpolation=cv2.INTER_NEAREST)
    return [camera, *(cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in moment.large)]


def _faces(moment: Moment, size: tuple[int, int]) -> list[np.ndarray]:
    scale = moment.out.shape[1] / moment.camera.shape[1]
    x, y = moment.face_px
    camera_px = ((x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5)
    camera = face_view(moment.camera, camera_px, size, FACE_ZOOM * scale, cv2.INTER_NEAREST)
    return [camera, *(face_view(image, moment.face_px, size, FACE_ZOOM) for image in moment.large)]


def _header(draw: ImageDraw.ImageDraw, width: int, title: str, subtitle: str) -> None:
    draw.rectangle((0, 0, width, HEADER_PX), BAND)
    draw.rectangle((0, HEADER_PX - 3, width, HEADER_PX), ACCENT)
    draw.text((GAP_PX, 32), title, BRIGHT, _font(34), anchor="lm")
    draw.text((GAP_PX, 68), subtitle, MUTED, _font(20), anchor="lm")


def _facts(draw: ImageDraw.ImageDraw, left: int, top: int, right: int, facts: Facts) -> None:
    y = top + 8
    for heading, lines in facts:
        draw.text((left, y), heading, ACCENT, _font(21), anchor="lm")
        draw.line((left, y + 16, right, y + 16), BAND, 2)
        y += 36
        for label, value in lines:
            draw.text((left, y), label, MUTED, _font(18), anchor="lm")
            draw.text((right, y), value, BRIGHT, _font(18), anchor="rm")
            y += 27
        y += 14


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every Pillow wheel has FreeType
    return font
