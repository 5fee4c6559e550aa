"""`python -m runbook_lib.lab`: run the practice server until it is interrupted."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from runbook_lib.lab.folder import UnsafeFolderError
from runbook_lib.lab.server import PracticeServer

DEFAULT_ROOT = Path("/tmp/apstra-practice-server")  # noqa: S108 - a fixed place that parameters/lab.yaml can name; claimed safely
_LOOK_AT_PARENT_S = 0.5


def main() -> int:
    """Start, say where, and stay until SIGTERM, SIGINT or, where asked for, the end of the parent process."""
    parser = argparse.ArgumentParser(prog="python -m runbook_lib.lab", description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=DEFAULT_ROOT, help="its folder (default %(default)s); remove it to start afresh"
    )
    parser.add_argument("--ssh-port", type=int, default=8022, help="default %(default)s")
    parser.add_argument("--https-port", type=int, default=8443, help="default %(default)s")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the process that started this one ends"
    )
    options = parser.parse_args()
    parent = os.getppid()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = PracticeServer(options.root, ssh_port=options.ssh_port, https_port=options.https_port)
    try:
        server.start()
    except (UnsafeFolderError, OSError) as error:
        sys.stderr.write(f"the practice server does not start: {error}\n")
        return 1
    sys.stdout.write(
        f"practice server ready: ssh 127.0.0.1:{server.ssh_port} https 127.0.0.1:{server.https_port} folder {server.root}\n"
    )
    sys.stdout.flush()
    while not stop.wait(_LOOK_AT_PARENT_S) and not (options.exit_with_parent and os.getppid() != parent):
        pass
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
