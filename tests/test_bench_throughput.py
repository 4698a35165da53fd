"""The throughput benchmark: several streams through one enhancer, and what their rate is."""

from __future__ import annotations

import json

import pytest

from streamsr.bench import throughput
from streamsr.bench.throughput import NullSink, together_fps
from streamsr.errors import ConfigError


def _sink(*taken_s: float) -> NullSink:
    sink = NullSink()
    sink.taken_ns = [round(at * 1e9) for at in taken_s]
    return sink


def test_the_rate_of_streams_is_that_while_all_run() -> None:
    slow, fast = _sink(0, 1, 2, 3), _sink(*(k / 4 for k in range(9)))
    assert together_fps([slow], 0) == 1
    assert together_fps([slow], 2) == 1
    assert together_fps([slow, fast], 0) == pytest.approx(5)
    with pytest.raises(ConfigError, match="more than 4 frames are needed, 4 came out"):
        together_fps([fast, slow], 3)
    with pytest.raises(ConfigError, match="did not run side by side"):
        together_fps([slow, _sink(4, 5, 6)], 0)


def test_a_row_for_each_number_of_faces_and_streams(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--streams=1,3", "--faces=1,2", "--frames=16", "--warm-up=3", "--runs=1", "--device=cpu"]
    assert throughput.main(options) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["scene"] == "the packaged sample"
    assert [(row["faces"], row["streams"]) for row in found["rows"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    for row in found["rows"]:
        assert row["n"] == 16 * row["streams"] == sum(row["rungs"].values()) / row["faces_seen"]
        assert row["restored_share"] == 1 and row["nfe"] == {"1": row["n"] * row["faces_seen"]}
        assert 0 < row["fps_least"] <= row["fps"]
        assert 0 < row["net_p50_ms"] <= row["restore_p50_ms"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--streams", "0"], "runs and streams must be at least 1"),
        (["--faces", "5"], "faces must be 1 to 4, as many as a stream tracks"),
        (["--url", "rtsp://camera/1"], "--url is one stream, without --data, and needs --minutes"),
        (["--url", "rtsp://camera/1", "--minutes", "1", "--streams", "2"], "--url is one stream"),
        (["--warm-up", "300"], "warm-up must be 0 to 298"),
    ],
)
def test_refusals(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(options) == 2
    assert words in capsys.readouterr().err
