"""The package's own names: sorted, complete, and loaded only when used."""

import subprocess
import sys
from importlib import import_module, metadata

import pytest

import streamsr


def test_all_is_sorted() -> None:
    assert streamsr.__all__ == sorted(set(streamsr.__all__))


def test_dir_lists_all() -> None:
    assert set(streamsr.__all__) <= set(dir(streamsr))


@pytest.mark.parametrize("name", [name for name in streamsr.__all__ if name != "__version__"])
def test_name_is_the_one_of_its_module(name: str) -> None:
    value = getattr(streamsr, name)
    assert value.__name__ == name
    home = import_module(value.__module__)
    assert getattr(home, name) is value
    assert name in home.__all__


def test_version_is_that_of_the_distribution() -> None:
    assert streamsr.__version__ == metadata.version("streamsr")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"'streamsr' has no attribute 'Enhanser'"):
        streamsr.Enhanser  # noqa: B018


def test_names_load_only_their_own_module() -> None:
    code = (
        "import sys, streamsr; streamsr.StreamSRError\n"
        "print(*sorted(m for m in sys.modules if m.startswith('streamsr.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["streamsr.errors", "streamsr.version"]
