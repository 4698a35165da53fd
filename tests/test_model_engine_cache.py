"""Compiled networks on disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from streamsr.errors import ConfigError
from streamsr.model.compiled.cache import STALE_S, EngineCache

KEY = {"engine": "inductor", "size": 256}


def _keep(cache: EngineCache, content: bytes = b"abc", **key: int) -> None:
    with cache.begun() as folder:
        (folder / "network.pt2").write_bytes(content)
        cache.keep(folder, {**KEY, **key}, "network.pt2", "all of it", 1.5)


def test_it_finds_what_it_keeps(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "a" / "b")
    assert cache.find(KEY) is None
    _keep(cache)
    kept = EngineCache(cache.folder).find(KEY)
    assert kept is not None and kept.path.read_bytes() == b"abc"
    assert (kept.said, kept.build_s) == ("all of it", 1.5)
    assert cache.find({**KEY, "size": 512}) is None
    assert [path.name for path in cache.folder.iterdir()] == [kept.folder.name]


@pytest.mark.parametrize("what", ["content", "about", "no about", "no content", "key"])
def test_it_drops_what_is_damaged(tmp_path: Path, what: str) -> None:
    cache = EngineCache(tmp_path)
    _keep(cache)
    kept = cache.find(KEY)
    assert kept is not None
    about = kept.folder / "about.json"
    if what == "content":
        kept.path.write_bytes(b"abd")
    elif what == "no content":
        kept.path.unlink()
    elif what == "about":
        about.write_text("{")
    elif what == "no about":
        about.unlink()
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "key": {}}))
    assert cache.find(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_that_build_the_same_is_content(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    with cache.begun() as mine, cache.begun() as theirs:
        for folder, content in ((theirs, b"theirs"), (mine, b"mine")):
            (folder / "x").write_bytes(content)
            cache.keep(folder, KEY, "x", "", 1.0)
    kept = cache.find(KEY)
    assert kept is not None and kept.path.read_bytes() == b"theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_beyond_its_limit_the_least_used_go(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit_bytes=4000)
    for index in range(3):
        _keep(cache, bytes(1000), size=index)
        kept = cache.find({**KEY, "size": index})
        assert kept is not None
        os.utime(kept.folder, (index, index))
    assert cache.find({**KEY, "size": 0}) is not None  # used just now
    _keep(cache, bytes(1000), size=3)
    there = [cache.find({**KEY, "size": index}) is not None for index in range(4)]
    assert there == [True, False, True, True]


def test_half_done_ones_go_after_a_day(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    with cache.begun() as left, cache.begun() as at_work:
        os.utime(left, (time.time() - STALE_S - 60,) * 2)
        _keep(cache)
        assert not left.exists() and at_work.exists()


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="must be writable for its user alone"):
        EngineCache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"no cache of engines in .*: Not a directory"):
        EngineCache(tmp_path / "file" / "engines")


def test_it_lies_where_caches_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "streamsr" / "engines"
    assert EngineCache().folder.stat().st_mode & 0o777 == 0o700
