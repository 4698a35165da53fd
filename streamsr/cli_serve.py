"""``streamsr serve``: one server, its signals and its one line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from .collector import spare_what_is_loaded
from .errors import ConfigError
from .interrupt import ends_at_once
from .serve import ServeConfig, Server, media_loop

__all__ = ["read_config", "run"]


def read_config(
    path: Path | None,
    *,
    stun: str | None,
    turn: str | None,
    turn_user: str | None,
    turn_password: str | None,
    **flags: Any,
) -> ServeConfig:
    """The flags that were given, over the TOML file at ``path``, if any. Raises ConfigError."""
    if turn is None and (turn_user is not None or turn_password is not None):
        raise ConfigError("--turn-user and --turn-password go with --turn")
    servers: list[dict[str, str | None]] = []
    if stun is not None:
        servers.append({"url": stun})
    if turn is not None:
        servers.append({"url": turn, "username": turn_user, "credential": turn_password})
    given = {name: value for name, value in flags.items() if value is not None}
    return ServeConfig.load(path, {**given, **({"ice_servers": servers} if servers else {})})


def run(config: ServeConfig) -> None:
    """Serve until SIGINT or SIGTERM; a second one does not wait for the sessions. Raises StreamSRError."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("streamsr").setLevel(logging.INFO)
    config.tls()  # a wrong certificate is known before the model is loaded
    with ends_at_once():
        from .enhancer import Enhancer  # torch loads here
        from .rtc import tune

        enhancer = Enhancer(device=config.device, engine=config.engine)
        enhancer.session().close()  # MediaPipe loads here, not while the first caller waits
    tune()
    spare_what_is_loaded()
    with enhancer, asyncio.Runner(loop_factory=media_loop(config)) as runner:
        runner.run(_serve(Server(config, enhancer)))


async def _serve(server: Server) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C then cancels, as asyncio does
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, on_signal)
    try:
        async with server:
            print(f"streamsr serves {server.url} (Ctrl-C stops)", flush=True)
            await stopping.wait()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    print("stopped", file=sys.stderr)
