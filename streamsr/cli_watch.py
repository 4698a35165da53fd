"""``streamsr watch``: its supervisor, its signals and its log."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from .loop import run as run_loop
from .loop import unwrapped
from .watch.config import WatchConfig, load
from .watch.logs import logging_to
from .watch.supervisor import Supervisor

__all__ = ["check", "run"]


def check(path: Path) -> None:
    """Say that the configuration is right. Raises ConfigError where it is not."""
    config = load(path)
    on = sum(camera.enabled for camera in config.cameras)
    off = len(config.cameras) - on
    print(f"{path} is right: {on} cameras" + (f", {off} more switched off" if off else ""))


def run(path: Path) -> None:
    """Until SIGINT or SIGTERM; a second one does not wait for the outputs. SIGHUP reads the file again.

    Raises StreamSRError: the configuration is wrong, or the model process cannot begin.
    """
    config = load(path)
    with logging_to(sys.stderr, config.watch.log):
        try:
            run_loop(_supervise(path, config))
        except BaseExceptionGroup as group:
            raise unwrapped(group) from None


async def _supervise(path: Path, config: WatchConfig) -> None:
    supervisor = Supervisor(path, config)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    await supervisor.run()
