"""A child ends when its supervisor is gone, with its own children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

CHILD = """
import os, subprocess, sys, time
from hub.kit import lifeline
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
lifeline.GRACE_SECONDS = 0.5
lifeline.hold()
if "deaf" in sys.argv:
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(300)
"""

PARENT = """
import os, subprocess, sys, time
line, keep = os.pipe()
child = subprocess.Popen(
    [sys.executable, "-c", {child!r}, *sys.argv[1:]],
    env=dict(os.environ, HUB_LIFELINE=str(line)), pass_fds=(line,), start_new_session=True, stdout=subprocess.PIPE,
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [False, True])
def test_kill_9_of_the_supervisor_ends_its_children(deaf: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT.format(child=CHILD)), *(["deaf"] if deaf else [])],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) == 2
    time.sleep(0.5)
    assert all(one.is_running() for one in family)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs(family[:1], timeout=30)
    for one in alive:
        one.kill()
    assert gone
    if deaf:
        assert not psutil.wait_procs(family, timeout=30)[1]
    for one in family:
        if one.is_running():
            one.kill()
