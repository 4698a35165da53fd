"""Means over clips, of rows that need not all have the same figures."""

from __future__ import annotations

from streamsr.bench.tally import means_over_clips


def test_means_of_what_all_clips_have() -> None:
    rows = [
        {"clip": "a", "condition": "call", "kept": 0.5, "n": 10, "psnr_y": 30.0, "flicker": 1.0},
        {"clip": "a", "condition": "clean", "kept": 0.5, "n": 10, "psnr_y": 40.0},
        {"clip": "b", "condition": "call", "kept": 0.5, "n": 20, "psnr_y": 32.0, "flicker": None},
    ]
    assert means_over_clips(rows, "condition", "kept") == [
        {"clip": "mean", "condition": "call", "kept": 0.5, "n": 30, "psnr_y": 31.0},
        {"clip": "mean", "condition": "clean", "kept": 0.5, "n": 10, "psnr_y": 40.0},
    ]
    bare = [{"clip": name, "condition": "call", "own": value} for name, value in (("a", 1.0), ("b", 2.0))]
    assert means_over_clips(bare, "condition") == [{"clip": "mean", "condition": "call", "own": 1.5}]
    assert means_over_clips([], "condition") == []
