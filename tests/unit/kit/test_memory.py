"""Memory that many pieces of images took goes back to the system, although what came among them stays."""

from __future__ import annotations

import subprocess
import sys

SCENE = """
import psutil
from hub.kit import memory

# Not `prepare`: its own thread would give back before this does.
memory._keep_pages()
here = psutil.Process()
pieces, lasting = [], []
for number in range(400):
    pieces.append(bytearray(b"x") * (512 << 10))
    lasting.append(bytes(2000))
full = here.memory_info().rss
# From the middle of the heap: what came last keeps the rest from being cut off its end.
del pieces[:-1]
before = here.memory_info().rss
memory.give_back()
print(full, before, here.memory_info().rss, len(lasting))
"""


def test_it_goes_back() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCENE], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    full, before, after = (int(word) >> 20 for word in said[:3])
    assert before > full - 60, "nothing of it would be shown if the heap gave it back by itself"
    assert after < full - 150
