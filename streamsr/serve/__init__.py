"""``streamsr serve``: calls over WHIP and WHEP, enhanced, and a page that shows them."""

from __future__ import annotations

from .config import IceServer, Limits, ServeConfig
from .ports import media_loop
from .server import Server

__all__ = ["IceServer", "Limits", "ServeConfig", "Server", "media_loop"]
