"""Figures by group: who is in which, and that a group's figures are those of its members."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import pytest
from portrait import write_portrait_data

from streamsr.bench import groups
from streamsr.bench.stills import aligned_stills
from streamsr.errors import ConfigError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portrait_data(tmp_path_factory.mktemp("portrait") / "data")


@pytest.mark.soak
def test_the_figures_of_a_group_are_those_of_its_members(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("name,skin,labels\nval_38,light,old hand\nval_39,light,hand\nsomebody,dark,child\n")
    options = ["--data", data, "--labels", labels, "--device", "cpu", "--sheet", tmp_path / "s.png"]
    assert groups.main([str(option) for option in options]) == 0
    rows = {row["group"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    assert {name: row["n"] for name, row in rows.items()} == {"all": 2, "hand": 2, "old": 1, "skin: light": 2}
    everyone, one = rows["all"], rows["old"]
    for measure in ("gain_db", "identity", "landmark_error"):
        assert rows["hand"][measure] == everyone[measure]
        other = 2 * everyone[measure] - one[measure]
        # of two values the standard error is half their distance
        expected = abs(one[measure] - other) / 2
        error = everyone["gain_standard_error" if measure == "gain_db" else f"{measure}_standard_error"]
        assert error == pytest.approx(expected, abs=2e-5)
        assert expected > 0
    assert one["gain_standard_error"] is None
    assert cv2.imread(str(tmp_path / "s.png")).shape == (4 * 342, 3 * 320, 3)


def test_labels_that_fit_nobody_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"groups\.csv names no validation still"):
        groups.run(data, frames=1, device="cpu")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name in ("none.csv", "other.csv"):
        with pytest.raises(ConfigError, match="must be a table with name, skin, labels"):
            groups.read_labels(tmp_path / name)


def test_packaged_labels_are_words_of_the_description() -> None:
    with groups.LABELS.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["skin"] for row in rows} == {"", "dark", "medium", "light"}
    used = {word for row in rows for word in row["labels"].split()}
    assert used == {"beard", "child", "dim", "glasses", "hand", "old", "turned"}
    assert len({row["name"] for row in rows}) == len(rows)


@pytest.mark.data
def test_every_validation_still_is_labelled() -> None:
    stills = {name for name, _, _ in aligned_stills(Path(os.environ["STREAMSR_DATA"]))}
    assert set(groups.read_labels(groups.LABELS)) == stills
