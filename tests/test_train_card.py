"""The model card's tables: between their markers, from a run of the benchmark, and nothing else changed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from portrait import write_portrait_data

from streamsr.cli import main
from streamsr.errors import ConfigError, StreamSRError
from streamsr.train import card
from streamsr.train.card import MODEL_CARD, SECTIONS, fill, write_card

TEXT = """# Card
before
<!-- figures: groups -->
old
<!-- /figures -->
between
<!-- figures: groups -->
<!-- /figures -->
after
"""


def test_a_benchmark_is_run_and_its_table_put_in(tmp_path: Path) -> None:
    data = write_portrait_data(tmp_path / "data", validation=["sd3_0010", "sd3_0041"])
    target = tmp_path / "CARD.md"
    target.write_text(TEXT)
    assert write_card(data, tmp_path / "out", "cpu", [target]) == [target]
    lines = target.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("# Card", "after")
    assert "old" not in lines
    marked = [k for k, line in enumerate(lines) if "figures" in line]
    first, second = lines[marked[0] + 1 : marked[1]], lines[marked[2] + 1 : marked[3]]
    assert first == second
    assert first[0].startswith("| faces | n | over bicubic, dB |")
    assert [line.split("|")[1].strip() for line in first[2:6]] == ["all", "old", "skin: dark", "skin: medium"]
    assert float(first[2].split("|")[3]) > 0
    found = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert len(found["rows"]) == 4
    assert first[-1] == f"`streamsr bench groups --data DATA`, weights {found['model_sha256'][:12]}"


def test_filling_in_the_same_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "CARD.md"
    target.write_text(TEXT)
    assert fill(target, str.upper)
    assert target.read_text().count("GROUPS<!-- /figures -->") == 2
    assert not fill(target, str.upper)


def test_refusals(tmp_path: Path) -> None:
    target, bare = tmp_path / "CARD.md", tmp_path / "bare.md"
    target.write_text(TEXT.replace("groups", "wishes"))
    bare.write_text("no markers\n")
    assert write_card(tmp_path, tmp_path / "out", targets=[bare]) == []
    with pytest.raises(ConfigError, match=r"figures must be of clips, .*, got wishes"):
        write_card(tmp_path, tmp_path / "out", targets=[target])
    target.write_text(TEXT)
    with pytest.raises(StreamSRError, match="streamsr bench groups failed"):
        write_card(tmp_path / "nothing", tmp_path / "out", targets=[target])
    assert target.read_text() == TEXT


def test_tables_of_two_models_are_not_mixed() -> None:
    assert card.one_model({"quality --set val": "ab", "guide": "ab"}) == "ab"
    with pytest.raises(StreamSRError, match="weights changed while they were measured: ab in quality, cd in"):
        card.one_model({"quality --set val": "ab", "guide": "cd"})


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "CARD.md"
    target.write_text(TEXT)
    monkeypatch.setattr(card, "MODEL_CARD", target)
    monkeypatch.setattr(card, "README", tmp_path / "none.md")
    assert main(["train", "card", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "streamsr bench groups failed" in capsys.readouterr().err


def test_the_packaged_card_has_places_for_tables() -> None:
    names = re.findall("<!-- figures: (.*) -->", MODEL_CARD.read_text())
    assert set(names) == {"clips", "gains", "guide", "groups"} < set(SECTIONS)
    assert MODEL_CARD.read_text().count("<!-- /figures -->") == len(names)
