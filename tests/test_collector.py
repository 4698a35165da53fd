"""What is loaded is walked by no collection any more; what is garbage is collected before."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from streamsr.collector import spare_what_is_loaded

class Node: ...
loaded = [[] for _ in range(20_000)]
garbage = Node()
garbage.itself = garbage
gone = weakref.ref(garbage)
del garbage
assert gone() is not None
spare_what_is_loaded()
assert gone() is None, "garbage was kept for good"
assert gc.get_freeze_count() > 20_000 > len(gc.get_objects())

later = Node()
later.itself = later
gone = weakref.ref(later)
del later
gc.collect()
assert gone() is None, "what comes later is collected as ever"
"""


def test_collections_walk_only_what_came_later() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)
