"""What every HTTP side of streamsr shares: who may ask, what is sent along, how it listens, how it looks."""

from __future__ import annotations

from .access import CORS_METHODS, Access, Right
from .listen import Listen
from .refusal import Refusal
from .site import Handler, Site, add_page

__all__ = ["CORS_METHODS", "Access", "Handler", "Listen", "Refusal", "Right", "Site", "add_page"]
