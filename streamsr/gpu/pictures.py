"""``pictures.Pictures`` on a GPU: every px of a stream goes through the project's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import FrameError
from ..face.alignment import camera_map, camera_patch
from ..face.mask import drawn_mask
from ..frame import Colour, StreamInfo, Yuv420p, check_image
from ..kernels import colour, consistency, crop
from ..model.crop import DeviceCrop
from ..model.cuda import Download, Upload, lanes
from ..model.reading import Trace
from ..pictures import Detail, Placed
from ..report import Certificate
from .background import Cover, enlarged
from .masks import cover, enlarged_mask, placement
from .steadiness import carried, steadied

__all__ = ["DevicePictures"]


class _Picture(NamedTuple):
    """host: for the tracker. given: whether it came on the device, and is to leave there."""

    host: np.ndarray
    there: Upload
    given: bool


class _Leaving(NamedTuple):
    """An output on its way to the host. coding: of one that was converted for an encoder; None: RGB."""

    download: Download
    coding: Colour | None

    def wait(self) -> np.ndarray | Yuv420p:
        values = self.download.wait().numpy()
        return values if self.coding is None else Yuv420p(values, self.coding)


class DevicePictures:
    """A picture is a numpy array, or a tensor (H, W, 3) uint8 on ``device``, or whatever there has
    ``__dlpack__`` or ``__cuda_array_interface__``: for these the output is a tensor on it, ready for the
    caller's current stream. A tensor is to stay as it is until its frame is composited.

    Faces are found on the CPU, so that a tensor, too, is copied there once. What goes to an encoder is
    converted for it on the device, and half as many bytes are copied.
    """

    def __init__(self, scale: int, device: torch.device) -> None:
        self._scale, self._device = scale, device
        self._lanes = lanes(device)
        with self._lanes.working():
            self._nothing = consistency.Patches(
                torch.zeros((1, 1, 1, 3), device=device), torch.zeros((1, 1, 1), device=device)
            )
        # so that kernels are compiled before a frame comes
        blank = self.take(np.zeros((64, 64, 3), np.uint8))
        (cut,) = self.cut(blank, [(8 * np.eye(2, 3), 256)])
        trace = Trace(cut, torch.zeros((256, 256, 3), device=device))
        self.steady(trace, trace)
        self.carry(trace, cut)
        self.composite(blank, [], StreamInfo(64 * scale, 64 * scale, Fraction(25), Fraction(1, 25)))

    def take(self, image: Any) -> _Picture:
        if isinstance(image, np.ndarray):
            check_image(image, "frame")
            return _Picture(image, self._lanes.upload(image), False)
        tensor = self._tensor(image)
        host = self._lanes.borrow(tensor).wait().numpy()
        return _Picture(host, Upload(tensor, None), True)

    def seen(self, picture: _Picture) -> np.ndarray:
        return picture.host

    def cut(self, picture: _Picture, faces: Sequence[Placed]) -> list[DeviceCrop]:
        """In one launch."""
        if not faces:
            return []
        sizes = sorted({size for _, size in faces})
        batches = [(sum(one == size for _, one in faces), size) for size in sizes]
        places = [sizes.index(size) for _, size in faces]
        indices = [places[:k].count(place) for k, place in enumerate(places)]
        placed = [
            crop.Placed(0, matrix, index, place)
            for (matrix, _), index, place in zip(faces, indices, places, strict=True)
        ]
        with self._lanes.working():
            camera = self._lanes.arrived(picture.there)
            rows = self._lanes.send(crop.table([camera], placed, batches))
            cut = crop.cut([camera], rows, batches)
        return [
            DeviceCrop(
                cut[place].x_in[index : index + 1],
                cut[place].y[index : index + 1],
                camera_map(matrix, size),
                camera_patch(picture.host, matrix),
            )
            for (matrix, size), index, place in zip(faces, indices, places, strict=True)
        ]

    def steady(self, before: Trace, now: Trace) -> Tensor:
        with self._lanes.working():
            return steadied(before, now)

    def carry(self, before: Trace, crop: DeviceCrop) -> Tensor:
        with self._lanes.working():
            return carried(before, crop)

    def composite(
        self, picture: _Picture, details: Sequence[Detail], yuv420p: StreamInfo | None = None
    ) -> tuple[Any, Certificate]:
        """A tensor's output is one, whatever ``yuv420p``."""
        scale, (height, width) = self._scale, picture.host.shape[:2]
        drawn = [drawn_mask(each.face.landmarks, each.face.matrix, each.size) for each in details]
        with self._lanes.working():
            camera = self._lanes.arrived(picture.there)
            masks = [self._lanes.send(mask) for mask in drawn]
            covers = self._covers(details, masks, width, height)
            base = enlarged(camera, scale, covers)[None]
            patches, placed = self._patches(details, masks)
            tables = consistency.table([placed], scale * height, scale * width, scale)
            faces, first = (self._lanes.send(each) for each in tables)
            sums = torch.empty((1, 4), dtype=torch.int64, device=self._device)
            out = consistency.Pasted(base, sums)
            consistency.paste(base, camera[None], patches, faces, first, scale, out=out)
            told = self._lanes.download(sums)
            leaving = None if picture.given else self._download(base, yuv420p)
        figures = consistency.certificate(told.wait(), scale * height, scale * width, scale)
        certificate = Certificate(*figures.flatten().tolist())
        if leaving is not None:
            return leaving.wait(), certificate
        self._lanes.hand_over(base[0])
        return base[0], certificate

    def _download(self, out: Tensor, yuv420p: StreamInfo | None) -> _Leaving:
        """out: (1, H, W, 3) RGB."""
        if yuv420p is None or (yuv420p.height, yuv420p.width) != out.shape[1:3]:
            return _Leaving(self._lanes.download(out[0]), None)
        coding = yuv420p.colour
        planes = colour.yuv420p(out, coding.matrix, coding.range)
        return _Leaving(self._lanes.download(planes[0]), coding)

    def _covers(
        self, details: Sequence[Detail], masks: Sequence[Tensor], width: int, height: int
    ) -> list[Cover]:
        covers = []
        for mask, each in zip(masks, details, strict=True):
            where = placement(each.face.matrix, len(mask), width, height)
            if where is not None:
                covers.append(cover(each.weight * mask, self._lanes.send(where.to_mask), where.area))
        return covers

    def _patches(
        self, details: Sequence[Detail], masks: Sequence[Tensor]
    ) -> tuple[list[consistency.Patches], list[consistency.Placed]]:
        """A set for each size, and where its faces go."""
        sizes = sorted({detail.size for detail in details})
        if not sizes:
            return [self._nothing], []
        members = [[k for k, detail in enumerate(details) if detail.size == size] for size in sizes]
        patches = [
            consistency.Patches(
                torch.stack([details[k].residual for k in those]),
                torch.stack([enlarged_mask(masks[k], size) for k in those]),
            )
            for size, those in zip(sizes, members, strict=True)
        ]
        placed = []
        for k, detail in enumerate(details):
            place = sizes.index(detail.size)
            placed.append(
                consistency.Placed(
                    detail.face.matrix,
                    detail.size,
                    members[place].index(k),
                    detail.gamma,
                    weight=detail.weight,
                    patches=place,
                )
            )
        return patches, placed

    def _tensor(self, image: Any) -> Tensor:
        if hasattr(image, "__dlpack__") and not isinstance(image, Tensor):
            image = torch.from_dlpack(image)  # which minds the stream that it was made in
        elif hasattr(image, "__cuda_array_interface__") and not isinstance(image, Tensor):
            image = torch.as_tensor(image, device=self._device)
        if not isinstance(image, Tensor):
            raise FrameError(f"frame must be a numpy array or a tensor, got {type(image).__name__}")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise FrameError(f"frame must be (H, W, 3), got {tuple(image.shape)}")
        if image.dtype != torch.uint8 or image.device != self._device:
            raise FrameError(
                f"frame must be uint8 on {self._device}, got "
                f"{str(image.dtype).removeprefix('torch.')} on {image.device}"
            )
        return image
