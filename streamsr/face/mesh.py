"""MediaPipe's two networks, one picture at a time: where faces are, and the mesh of one face.

The stock FaceMesh solution runs its short-range detector on every frame that shows fewer faces
than allowed, and misses faces below a tenth of the picture. Here the same networks run as graphs of
their own, so that the tracker chooses what is looked at and sees the mesh's own presence score.
One instance per stream, on one thread.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .mediapipe_graph import PictureGraph

__all__ = ["DETECTOR_PX", "MESH_POINTS", "MESH_PX", "Detection", "FaceNetworks"]

MESH_PX = 192  # side of the mesh network's input
DETECTOR_PX = 192  # side of the full-range detector's input
MESH_POINTS = 478  # 468 of the face, 5 of each iris
DETECTION_MIN_SCORE = 0.1  # low: callers set their own bar

_MESH_GRAPH = """
num_threads: 1
input_stream: "IMAGE:image"
input_stream: "ROI:roi"
output_stream: "LANDMARKS:projected"
input_side_packet: "WITH_ATTENTION:with_attention"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  output_stream: "LANDMARKS:projected"
  input_side_packet: "WITH_ATTENTION:with_attention"
}
"""
_DETECTOR_GRAPH = """
num_threads: 1
input_stream: "IMAGE:image"
output_stream: "DETECTIONS:detections"
node {
  calculator: "FaceDetectionFullRangeCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite XNNPACK"
    rb"|[IW]\d{4} .*(inference_feedback_manager|gl_context|landmark_projection_calculator)"
)
_quiet_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Detection:
    """box: (4,) float64 x, y, width, height in px. eyes: (2, 2) left, right as seen. score in [0, 1]."""

    box: np.ndarray
    eyes: np.ndarray
    score: float


class FaceNetworks:
    """Face detector and face mesh with irises, one thread each, for RGB pictures."""

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _without_chatter():
            from mediapipe.python import packet_getter

            self._mesh: PictureGraph | None = PictureGraph(
                _mesh_config(),
                {"landmarks": packet_getter.get_proto, "presence": packet_getter.get_float},
                {"with_attention": True},
            )
            self._detector: PictureGraph | None = PictureGraph(
                _detector_config(), {"detections": packet_getter.get_proto_list}
            )
            # graphs open on threads of their own: the first pictures wait for that to be done
            self.mesh(np.zeros((MESH_PX, MESH_PX, 3), np.uint8))
            self.detect(np.zeros((DETECTOR_PX, DETECTOR_PX, 3), np.uint8))

    def mesh(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        """The mesh of the face that fills about two thirds of ``crop`` (192, 192, 3) uint8, upright.

        Returns landmarks (478, 3) float64 in px of pixel centres (depth in the same unit, towards the
        camera negative) and the presence score in [0, 1] that there is a face at all.
        """
        assert self._mesh is not None, "closed"
        found = self._mesh(crop)
        points = np.array([(p.x, p.y, p.z) for p in found["landmarks"].landmark], np.float64) * MESH_PX
        points[:, :2] -= 0.5
        return points, float(found["presence"])

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces in ``image`` (H, W, 3) uint8, letterboxed to 192 px: those above some 20 px of these."""
        assert self._detector is not None, "closed"
        height, width = image.shape[:2]
        side = max(height, width)
        reduced = (max(1, round(width * DETECTOR_PX / side)), max(1, round(height * DETECTOR_PX / side)))
        square = np.zeros((DETECTOR_PX, DETECTOR_PX, 3), np.uint8)
        shrinks = side > DETECTOR_PX
        square[: reduced[1], : reduced[0]] = cv2.resize(
            image, reduced, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        scale = np.array([width / reduced[0], height / reduced[1]]) * DETECTOR_PX
        detections = []
        for found in self._detector(square)["detections"] or ():
            data = found.location_data
            box = data.relative_bounding_box
            # its key points are named by the person's own left and right: the first is left in the picture
            eyes = np.array([(point.x, point.y) for point in data.relative_keypoints[:2]])
            corner, extent = np.array([box.xmin, box.ymin]) * scale, np.array([box.width, box.height]) * scale
            detections.append(
                Detection(np.concatenate([corner - 0.5, extent]), eyes * scale - 0.5, float(found.score[0]))
            )
        return detections

    def close(self) -> None:
        """Give the graphs back. May be called twice."""
        for graph in (self._mesh, self._detector):
            if graph is not None:
                graph.close()
        self._mesh = self._detector = None


def _canonical(text: str) -> Any:
    """The graph ``text`` describes with its subgraphs written out, one interpreter thread each."""
    import mediapipe
    from mediapipe.calculators.tensor.inference_calculator_pb2 import InferenceCalculatorOptions
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python._framework_bindings import resource_util, validated_graph_config

    # where the graphs look for their models: the folder that holds the package
    resource_util.set_resource_dir(os.path.dirname(os.path.dirname(os.path.abspath(mediapipe.__file__))))
    validated = validated_graph_config.ValidatedGraphConfig()
    validated.initialize(graph_config=text)
    config = CalculatorGraphConfig.FromString(validated.binary_config)
    for node in config.node:
        if node.calculator.startswith("InferenceCalculator"):
            if node.node_options:
                options = InferenceCalculatorOptions()
                node.node_options[0].Unpack(options)
                options.delegate.xnnpack.num_threads = 1
                node.node_options[0].Pack(options)
            else:
                node.options.Extensions[InferenceCalculatorOptions.ext].delegate.xnnpack.num_threads = 1
    return config


def _mesh_config() -> Any:
    """The mesh graph on whole 192-px crops: no region, no threshold, the presence score shown."""
    from mediapipe.calculators.util.thresholding_calculator_pb2 import ThresholdingCalculatorOptions

    config = _canonical(_MESH_GRAPH)
    for node in list(config.node):
        if node.calculator == "ImageToTensorCalculator":
            node.input_stream.remove("NORM_RECT:roi")
        elif node.calculator == "TensorsToFloatsCalculator":
            node.output_stream[0] = "FLOAT:presence"
        elif node.calculator == "ThresholdingCalculator":
            node.input_stream[0] = "FLOAT:presence"
            node.options.Extensions[ThresholdingCalculatorOptions.ext].threshold = -1.0
        elif node.calculator == "SwitchMuxCalculator" and node.output_stream[:1] == [
            "LANDMARKS:facelandmarkcpu__landmarks"
        ]:
            node.output_stream[0] = "LANDMARKS:landmarks"
        elif node.calculator == "LandmarkProjectionCalculator":
            config.node.remove(node)
    del config.input_stream[:], config.output_stream[:]
    config.input_stream.append("IMAGE:image")
    config.output_stream.extend(["LANDMARKS:landmarks", "FLOAT:presence"])
    return config


def _detector_config() -> Any:
    from mediapipe.calculators.tensor.tensors_to_detections_calculator_pb2 import (
        TensorsToDetectionsCalculatorOptions,
    )

    config = _canonical(_DETECTOR_GRAPH)
    for node in config.node:
        if node.calculator == "TensorsToDetectionsCalculator":
            options = TensorsToDetectionsCalculatorOptions()
            node.node_options[0].Unpack(options)
            options.min_score_thresh = DETECTION_MIN_SCORE
            node.node_options[0].Pack(options)
    return config


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep mediapipe's start-up lines off stderr; whatever else is written meanwhile still comes out.

    They are written by C++ to file descriptor 2 before its log levels are set up, so no environment
    variable silences them.
    """
    with _quiet_lock, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        try:
            real = os.dup(2)
        except OSError:  # the process has no stderr: nothing to keep clean
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            held.seek(0)
            kept = b"".join(line for line in held if not _CHATTER.match(line))
            if kept:
                os.write(real, kept)
            os.close(real)
