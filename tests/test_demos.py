"""The scripts in demos/ do what they say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from media import moving_portrait, write_video

from streamsr.io.file import FileSource

DEMOS = Path(__file__).parent.parent / "demos"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEMOS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_embed_enhances_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, made = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(given, picture_of=moving_portrait, count=3, size=(256, 192))
    _load("embed").main(str(given), str(made))
    source = FileSource(str(made))
    info = source.open()
    source.close()
    assert (info.width, info.height) == (512, 384)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("face 0 restored" in line for line in lines)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]
