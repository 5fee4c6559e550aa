"""What a person at a terminal sees while a command takes long, and what goes into a file instead."""

import os
import pty
import subprocess
import sys

RUN = """
import time
from runbook_lib.models import ARMING
from runbook_lib.terminal import Progress

progress = Progress()
for purpose, takes in ((f"{ARMING}: the old pair comes back in 300 s unless confirmed", 0), ("restart nginx", 1.2)):
    event = {"step": "install", "purpose": purpose}
    progress({"event": "intent", **event})
    until = time.monotonic() + takes
    while time.monotonic() < until:
        progress.wait()
        time.sleep(0.05)
    progress({"event": "result", **event, "status": 0, "duration_s": takes, "stderr": ""})
"""


def test_at_a_terminal_the_line_is_written_anew() -> None:
    """With its time, with what the guard still leaves, and in the end with how long it took."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    with subprocess.Popen([sys.executable, "-c", RUN], stderr=theirs, env=os.environ | {"COLUMNS": "120"}) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    line = seen.decode().split("\r\x1b[K")[1]
    assert line.startswith("  restart nginx: 1 s so far; guard: the old pair comes back in 4:5")
    assert seen.decode().rstrip().rpartition("\r\x1b[K")[2].startswith("  install: restart nginx")
    assert seen.count(b"so far") == 1


def test_in_a_file_each_command_is_one_line() -> None:
    """Nothing is written anew where nobody watches."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    assert "\r" not in done.stderr
    assert "so far" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
