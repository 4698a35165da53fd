"""All that is CUDA's own: streams, copies beside the work, and graphs.

One stream a device takes the work of a whole process, whichever thread queues it: crops, network and
compositing of all streams come one after another, so that what one of them left needs no events to be read by
the next. Frames come in and go out on two other streams meanwhile. On other devices all of it is done at
once, without streams and without graphs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Download", "Lanes", "Upload", "lanes"]

_DTYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.float32): torch.float32,
}
_lanes: dict[torch.device, Lanes] = {}
_lock = threading.Lock()


def lanes(device: torch.device) -> Lanes:
    """The one and only of ``device``."""
    with _lock:
        if device not in _lanes:
            _lanes[device] = Lanes(device)
        return _lanes[device]


class Upload(NamedTuple):
    """On its way to the device. ready: None where it is there."""

    tensor: Tensor
    ready: torch.cuda.Event | None


class Download(NamedTuple):
    """On its way to the host. done: None where it is there."""

    tensor: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> Tensor:
        if self.done is not None:
            self.done.synchronize()
        return self.tensor


class Lanes:
    """Of one device; made by ``lanes``. For any threads."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._work, self._up, self._down, self._capture = (torch.cuda.Stream(device) for _ in range(4))
            self._pool = torch.cuda.graph_pool_handle()
            self._capturing = threading.Lock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """What is launched inside is queued in the stream of the work."""
        with torch.inference_mode():
            if not self._cuda:
                yield
                return
            with torch.cuda.stream(self._work):
                yield

    def send(self, values: np.ndarray, into: Tensor | None = None) -> Tensor:
        """``values`` on the device, in the order of the work: for what is small. Not while capturing."""
        host = self._on_host(values)
        if into is None:
            return host.to(self.device, non_blocking=True)
        return into.copy_(host, non_blocking=True)

    def upload(self, values: np.ndarray) -> Upload:
        """A frame, beside the work. On a CPU it may be ``values`` itself."""
        host = self._on_host(values)
        if not self._cuda:
            return Upload(host, None)
        with torch.cuda.stream(self._up):
            tensor = host.to(self.device, non_blocking=True)
            tensor.record_stream(self._work)
            return Upload(tensor, _mark(self._up))

    def arrived(self, upload: Upload) -> Tensor:
        """To be read by the work that is queued from now on."""
        if upload.ready is not None:
            self._work.wait_event(upload.ready)
        return upload.tensor

    def download(self, tensor: Tensor) -> Download:
        """What the work queued so far leaves in ``tensor``, into pinned memory of its own."""
        return self._copied(tensor, self._work) if self._cuda else Download(tensor.clone(), None)

    def borrow(self, tensor: Tensor) -> Download:
        """The caller's, made in its own stream, may be read by the work from now on. And a copy of it."""
        if not self._cuda:
            return Download(tensor.clone(), None)
        caller = torch.cuda.current_stream(self.device)
        self._work.wait_stream(caller)
        tensor.record_stream(self._work)
        return self._copied(tensor, caller)

    def hand_over(self, tensor: Tensor) -> None:
        """The work's, which has been waited for, may be read in the caller's stream from now on."""
        if self._cuda:
            tensor.record_stream(torch.cuda.current_stream(self.device))

    def mark(self) -> torch.cuda.Event | None:
        """Done when the work queued so far is."""
        return _mark(self._work) if self._cuda else None

    def captured(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """``run`` as one launch, a CUDA graph; on other devices itself.

        It reads and writes tensors that stay. It is run once here, so that kernels are compiled and chosen.
        Within ``working``; other threads may queue what they like meanwhile.
        """
        if not self._cuda:
            return run
        graph = torch.cuda.CUDAGraph()
        with self._capturing:  # there is one stream for it, and torch takes no two captures at once
            self._capture.wait_stream(self._work)
            with torch.cuda.stream(self._capture):
                run()
            # one pool: graphs follow each other, in any order, and what is to stay they write outside of it
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._capture, capture_error_mode="thread_local"
            ):
                run()
            self._work.wait_stream(self._capture)
        return graph.replay

    def _on_host(self, values: np.ndarray) -> Tensor:
        """For CUDA in pinned memory, which torch keeps until it has been copied."""
        if not self._cuda:
            return torch.from_numpy(np.ascontiguousarray(values))
        host = torch.empty(values.shape, dtype=_DTYPES[values.dtype], pin_memory=True)
        np.copyto(host.numpy(), values)
        return host

    def _copied(self, tensor: Tensor, after: torch.cuda.Stream) -> Download:
        self._down.wait_stream(after)
        with torch.cuda.stream(self._down):
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._down)
            return Download(host, _mark(self._down))


def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
    event = torch.cuda.Event(blocking=True)  # a thread that waits for it leaves its core to others
    event.record(stream)
    return event
