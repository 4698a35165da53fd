"""The quality benchmark as a whole, on a data folder of one face: every option, every refusal."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from portrait import aligned_portrait, write_portrait_data
from test_bench_user_networks import Distance, Means, script
from torch import Tensor, nn

from streamsr.bench import quality
from streamsr.bench.clips import CONDITIONS
from streamsr.bench.fidelity import psnr_y
from streamsr.bench.known_face import KnownFace
from streamsr.bench.panel import Panel
from streamsr.bench.plots import perception_distortion
from streamsr.bench.sheet import Profiles
from streamsr.bench.still_quality import stills_with_faces
from streamsr.bench.stills import photograph, template_matrix
from streamsr.bench.tables import markdown
from streamsr.errors import ConfigError


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


COLOURED = ("clean", "call", "cctv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portrait_data(tmp_path_factory.mktemp("portrait") / "data")


def bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """The last line of a run that ought to end well."""
    capsys.readouterr()
    assert quality.main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_clips_with_peers_and_the_users_networks(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = script(Twice(), tmp_path / "twice.pt")
    same = script(nn.Identity(), tmp_path / "same.pt")
    out = {name: tmp_path / name for name in ("s.png", "p.png", "t.md", "r.jsonl", "d.png")}
    said = bench(
        capsys, "--data", data, "--clips", "sway", "--conditions", "clean,cctv", "--scale", 2,
        "--frames", 5, "--fidelity", "0,1", "--device", "cpu", "--work", tmp_path / "work",
        "--peer", f"twice={peer}", "--face-peer", f"same={same}",
        "--lpips", script(Distance(), tmp_path / "l.pt"), "--arcface", script(Means(), tmp_path / "a.pt"),
        "--fvd", script(Means(), tmp_path / "f.pt"), "--sheet", out["s.png"], "--profile", out["p.png"],
        "--markdown", out["t.md"], "--jsonl", out["r.jsonl"], "--plot", out["d.png"],
    )  # fmt: skip
    rows = {(row["condition"], row["method"]): row for row in said["rows"]}
    methods = {
        "truth",
        "bicubic",
        "lanczos",
        "back_projection",
        "twice",
        "same",
        "streamsr f=0",
        "streamsr f=1",
    }
    assert {method for _, method in rows} == methods
    ours, plain, truth = (rows["clean", name] for name in ("streamsr f=1", "bicubic", "truth"))
    assert truth["warp_ratio"] == 1
    assert "face_psnr_y" not in truth
    for measure in (
        "frame_psnr_y", "face_gain_db", "face_ssim", "face_haarpsi", "face_hf_ratio", "feature_distance",
        "niqe", "identity", "landmark_error", "warp_ratio", "tof_px", "flicker", "consistency_rms",
        "lpips", "arcface",
    ):  # fmt: skip
        assert np.isfinite(ours[measure]), measure
        assert ours[measure] != rows["cctv", "streamsr f=1"][measure], measure
    assert ours["fvd"] is None  # five frames make no window
    assert ours["nfe"]  # the network ran
    assert plain["face_gain_db"] == 0
    assert rows["clean", "same"]["face_psnr_y"] == pytest.approx(plain["face_psnr_y"], abs=0.01)
    assert rows["clean", "twice"]["face_psnr_y"] < plain["face_psnr_y"]
    assert rows["cctv", "bicubic"]["face_psnr_y"] < plain["face_psnr_y"] - 2
    assert rows["clean", "back_projection"]["consistency_rms"] < plain["consistency_rms"]
    lines = [json.loads(line) for line in out["r.jsonl"].read_text().splitlines()]
    assert [line["method"] for line in lines] == [row["method"] for row in said["rows"]]
    assert lines[0]["model_sha256"] == said["model_sha256"]
    assert "| sway, clean, x2 | PSNR-Y, frame |" in out["t.md"].read_text()
    for name, tiles in (("s.png", 8), ("p.png", 8)):
        picture = cv2.imread(str(out[name]))
        assert picture.shape == (2 * 342, tiles * 320, 3)
    assert out["d.png"].read_bytes()[1:4] == b"PNG"
    kept = {path.name for path in (tmp_path / "work").iterdir()}
    assert {"sway_clean_x2.mkv", "sway_clean_x2_f0_out.mkv", "sway_faces_x2_5.npz"} <= kept
    assert {"niqe_256_300.npz", "niqe_512_300.npz"} <= kept


def test_stills_in_every_condition(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = bench(
        capsys, "--data", data, "--set", "val", "--frames", 1, "--device", "cpu", "--fidelity", "1",
        "--sheet", tmp_path / "sheet.png", "--gains", tmp_path / "gains.md", "--json",
    )  # fmt: skip
    groups = {(row["size"], row["condition"], row["scale"]) for row in said["rows"]}
    # at 256 / 8 px a crop the face is 17 px wide: never repainted, so never compared
    expected = {(s, c, k) for s in (256, 512) for c in COLOURED for k in (2, 4, 8)}
    assert groups == expected - {(256, c, 8) for c in COLOURED}
    for row in said["rows"]:
        if row["method"].startswith("streamsr"):
            assert 0 < row["t0"] < 1
            assert np.isfinite(
                [row[m] for m in ("identity", "niqe", "landmark_error", "feature_distance")]
            ).all()
    ours = [row for row in said["rows"] if row["method"] == "streamsr f=1"]
    assert np.mean([row["face_gain_db"] for row in ours]) > 0.1
    head, _, *lines = (tmp_path / "gains.md").read_text().splitlines()
    assert head.split(" | ")[1:4] == ["clean x2", "clean x4", "clean x8"]
    assert len(lines) == 2 * 3  # sizes, and methods without bicubic
    cells = lines[2].strip("| ").replace("**", "").split(" | ")
    assert cells[0] == "S = 256, streamsr f=1"
    assert float(cells[2]) == round(ours[1]["face_gain_db"], 2)
    assert cells[3] == ""  # x8
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] == 5 * 320  # truth, baselines, streamsr


def test_cctv_is_noisier_in_every_frame_and_call_is_not_noisy() -> None:
    face = aligned_portrait()
    low = {condition: photograph(face, condition, 4, seed=3) for condition in CONDITIONS}
    assert all(picture.shape == (128, 128, 3) for picture in low.values())
    scores = [psnr_y(low[condition], low["clean"]) for condition in ("call", "cctv")]
    assert scores[0] > scores[1] + 2
    assert np.array_equal(low["cctv"], photograph(face, "cctv", 4, seed=3))
    assert not np.array_equal(low["cctv"], photograph(face, "cctv", 4, seed=4))
    infrared = photograph(face, "infrared", 4, seed=3).astype(int)
    assert np.ptp(infrared, axis=2).max() <= 2 and psnr_y(infrared.astype(np.uint8), low["clean"]) < scores[0]


def test_stills_bring_their_faces(data: Path) -> None:
    (still,) = stills_with_faces(data, 256, 1)
    assert still.truth.shape == (256, 256, 3)
    assert still.face.matrix == pytest.approx(template_matrix(256))
    small = still.face.reduced(4)
    assert small.matrix == pytest.approx(template_matrix(64))
    assert (small.landmarks + 0.5) * 4 - 0.5 == pytest.approx(still.face.landmarks)
    tracker = KnownFace(small)
    (face,) = tracker.track(np.zeros((64, 64, 3), np.uint8), 0.0)
    assert 24 < face.roi_px[2] < 48
    tracker.close()


def test_the_panel_knows_a_blurred_and_a_shifted_face(data: Path, tmp_path: Path) -> None:
    truth = cv2.resize(aligned_portrait(), (256, 256), interpolation=cv2.INTER_AREA)
    pictures = {
        "same": truth,
        "blurred": cv2.GaussianBlur(truth, (0, 0), 3),
        "wider": cv2.resize(truth, (286, 256), interpolation=cv2.INTER_CUBIC)[:, 15:271].copy(),
    }
    panel = Panel(data, tmp_path)
    found = panel.measure(truth, pictures, template_matrix(256))
    panel.close()
    assert set(found) == {"truth", *pictures}
    for measure in ("feature_distance", "identity", "landmark_error"):
        assert found["same"][measure] == pytest.approx(0, abs=1e-6)
        assert found["blurred"][measure] > 1e-4
    assert found["wider"]["landmark_error"] > 2  # of the eyes' distance, at 12 % in width
    assert found["blurred"]["niqe"] > found["same"]["niqe"] == found["truth"]["niqe"]


def test_what_the_data_folder_lacks_is_left_out_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    panel = Panel(tmp_path, tmp_path)
    face = cv2.resize(aligned_portrait(), (256, 256), interpolation=cv2.INTER_AREA)
    found = panel.measure(face, {"same": face}, template_matrix(256))
    panel.close()
    assert set(found["same"]) == {"identity", "landmark_error", "landmarks_found"}
    said = capsys.readouterr().err
    assert "feature_distance is not measured: cannot read" in said
    assert "niqe is not measured: no " in said


def test_profiles_show_time_downwards(tmp_path: Path) -> None:
    profiles, box = Profiles(), (slice(10, 60), slice(20, 80))
    for k in range(6):
        picture = np.full((80, 100, 3), 40 * k, np.uint8)
        profiles.add("clip", {"truth": picture, "other": 255 - picture}, box)
    profiles.save(tmp_path / "p.png")
    tile = cv2.imread(str(tmp_path / "p.png"))[22:, :320]
    middles = tile[:, 160, 0].astype(int)[27 :: 320 // 6][:6]
    assert middles == pytest.approx([0, 40, 80, 120, 160, 200], abs=3)


def test_markdown_marks_the_best_as_printed() -> None:
    rows = [
        {"size": 256, "scale": 2, "method": "truth", "niqe": 1.0},
        {"size": 256, "scale": 2, "method": "a", "face_psnr_y": 30.001, "niqe": 4.0, "identity": None},
        {"size": 256, "scale": 2, "method": "b", "face_psnr_y": 30.004, "niqe": 3.25, "identity": None},
        {"size": 256, "scale": 4, "method": "a", "face_psnr_y": 0.5, "face_gain_db": -0.25},
        {"size": 256, "scale": 4, "method": "b", "face_psnr_y": 0.25, "face_gain_db": -0.001},
    ]
    first, second = markdown(rows, ("size", "scale")).strip().split("\n\n")
    assert first.splitlines() == [
        "| S = 256, x2 | PSNR-Y | NIQE |",
        "| --- | --- | --- |",
        "| truth |  | 1.00 |",
        "| a | **30.00** | 4.00 |",
        "| b | **30.00** | **3.25** |",
    ]
    assert second.splitlines()[2:] == ["| a | **.50** | -.25 |", "| b | .25 | **.00** |"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--conditions", "fog"], "--conditions must be of clean, call, cctv, infrared, got fog"),
        (["--scale", "3"], "--scale must be of 2, 4, 8, got 3"),
        (["--frames", "0"], "--frames must be at least 1"),
        (["--fidelity", "high"], "--fidelity must be a number, got 'high'"),
        (["--set", "val", "--profile", "p.png"], "--fvd and --profile need clips"),
        (["--gains", "g.md"], "--gains is for stills"),
        (["--peer", "espcn=a.pt"], "a peer needs a name of its own, got espcn"),
        (["--peer", "a=a.pt", "--face-peer", "a=b.pt"], "a peer needs a name of its own, got a"),
        (["--sheet", "nowhere/s.png"], "cannot write nowhere/s.png: no folder nowhere"),
        (["--peer", "x"], "--peer must be NAME=FILE"),
        (["--clips", "none"], "no clip"),
        (["--lpips", "none.pt"], "--lpips none.pt is no TorchScript file"),
    ],
)
def test_refusals_are_one_line(
    options: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main(["--data", str(data), "--clips", "sway", "--baselines-only", *options]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("streamsr bench quality: ")
    assert words in stderr
    assert stderr.count("\n") == 1


def test_a_plot_needs_features(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no row has a feature distance"):
        perception_distortion(tmp_path / "p.png", [{"method": "bicubic", "face_psnr_y": 30.0}], ())
