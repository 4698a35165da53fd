"""``streamsr watch``: its supervisor, its signals and its log."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError
from .loop import run as run_loop
from .loop import unwrapped
from .watch.config import WatchConfig, load
from .watch.logs import logging_to
from .watch.machines import Machines, ThisMachine
from .watch.supervisor import Supervisor

if TYPE_CHECKING:
    from .watch.ray_machines import RayMachines

__all__ = ["check", "run"]


def check(path: Path) -> None:
    """Say that the configuration is right. Raises ConfigError where it is not."""
    config = load(path)
    on = sum(camera.enabled for camera in config.cameras)
    off = len(config.cameras) - on
    print(f"{path} is right: {on} cameras" + (f", {off} more switched off" if off else ""))


def run(path: Path, *, ray: bool = False) -> int:
    """Until SIGINT or SIGTERM; a second one does not wait for the outputs. SIGHUP reads the file again.

    ray: on all machines of a Ray cluster. Returns the exit status: 0, or 128 + n after a second signal n.
    Raises StreamSRError: the configuration is wrong, there is no cluster, or the model process cannot begin.
    """
    config = load(path)
    with logging_to(sys.stderr, config.watch.log):
        try:
            with _cluster(config) if ray else ThisMachine() as machines:
                return run_loop(_supervise(path, config, machines))
        except BaseExceptionGroup as group:
            raise unwrapped(group) from None


def _cluster(config: WatchConfig) -> RayMachines:
    try:
        from .watch.ray_machines import RayMachines
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError("--ray needs Ray: pip install 'streamsr[ray]'") from None
    return RayMachines(config.watch)


async def _supervise(path: Path, config: WatchConfig, machines: Machines) -> int:
    supervisor, signals = Supervisor(path, config, machines), list[int]()

    def stop(signum: int) -> None:
        signals.append(signum)
        supervisor.stop()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    await supervisor.run()
    return 128 + signals[1] if len(signals) > 1 else 0
