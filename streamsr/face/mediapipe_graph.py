"""A graph of MediaPipe's that takes one picture at a time and waits for what comes of it.

Its own SolutionBase makes a class for each result: 1 ms of Python a call, and cycles for the collector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["PictureGraph"]

_STEP_US = 33_333  # between two pictures, as the graph is told: nothing in ours depends on it


class PictureGraph:
    """``config`` with an input stream "image"; imports MediaPipe.

    outputs: stream -> what reads its packets, a function of ``mediapipe.python.packet_getter``. switches:
    side packets.
    """

    def __init__(
        self,
        config: Any,
        outputs: Mapping[str, Callable[[Any], Any]],
        switches: Mapping[str, bool] | None = None,
    ) -> None:
        from mediapipe.python import packet_creator
        from mediapipe.python._framework_bindings.calculator_graph import CalculatorGraph
        from mediapipe.python._framework_bindings.image_frame import ImageFormat

        self._rgb, self._packet = ImageFormat.SRGB, packet_creator.create_image
        self._outputs = dict(outputs)
        self._packets: dict[str, Any] = {}
        self._time_us = 0
        self._graph: Any = CalculatorGraph(graph_config=config)
        for stream in self._outputs:
            self._graph.observe_output_stream(stream, self._packets.__setitem__, True)
        self._graph.start_run(
            {name: packet_creator.create_bool(value) for name, value in (switches or {}).items()}
        )

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """image (H, W, 3) uint8 RGB. Returns what each output stream has for it; None: nothing."""
        self._packets.clear()
        self._time_us += _STEP_US
        picture = self._packet(image, image_format=self._rgb).at(self._time_us)
        self._graph.add_packet_to_input_stream(stream="image", packet=picture)
        self._graph.wait_until_idle()
        found = {}
        for stream, read in self._outputs.items():
            packet = self._packets.get(stream)
            found[stream] = None if packet is None or packet.is_empty() else read(packet)
        return found

    def close(self) -> None:
        self._graph.close()
