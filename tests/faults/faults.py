"""What can go wrong around a change on a real server, each as a way to bring it about and a way to end it.

What cannot be had is stood in for, and the fault's name says so with `(shim)`: a `docker` that misbehaves is a script in
front of the real one.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from tests.faults.matrix import Client, order_for
from tests.realserver.host import CONF_DIR, INSIDE, RealHost

KEEP = "/run/lab"
WINDOW_S = 6
FULL = "dd if=/dev/zero of={}/filler bs=4k count=20000 2>/dev/null; true"  # more than the small file systems hold


@dataclass(frozen=True)
class Scene:
    """Where a fault happens: the server, the stopped client, and the folder that holds its records."""

    host: RealHost
    client: Popen[str]
    base: Path
    change_folder: str


Act = Callable[[Scene], object]


def nothing(_scene: Scene) -> None:
    """Nothing has to be done."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: What an operator would call it.
        begin: Brings it about while the client stands at its point.
        end: Takes it away; until then the server may be unable to serve.
        lasts_s: Seconds from the point on after which it is taken away; more than the window where the guard must cope with it.
        points: Steps at which it is tried, by the start of the point's name; empty: at all.
        values: Parameters that it needs.
        before: What has to be true of the server before the change begins.
        frees_client: Whether the client is told to go on afterwards; not where it is dead.
        foreign: Whether it puts a pair of somebody else's in place, which must then be left alone.
        small_base: Whether the operator's records lie on a small file system of their own.
        window_s: The change's rollback_after_s.
    """

    name: str
    begin: Act
    end: Act = nothing
    lasts_s: float = 0
    points: tuple[str, ...] = ()
    values: tuple[tuple[str, object], ...] = ()
    before: Callable[[RealHost], object] = lambda _host: None
    frees_client: bool = True
    foreign: bool = False
    small_base: bool = False
    window_s: int = WINDOW_S


def on_server(script: str) -> Act:
    """Runs a shell script as root on the server, past SSH and sudo."""
    return lambda scene: scene.host.run(script, timeout_s=60)


def shim(case: str) -> Act:
    """Puts a `docker` in front of the real one that treats one kind of call in its own way."""
    script = f'#!/bin/sh\ncase "$*" in\n{case}\nesac\nexec {KEEP}/docker "$@"\n'
    return on_server(
        f"touch {KEEP}/docker {KEEP}/shim && mount --bind /usr/bin/docker {KEEP}/docker && cat >{KEEP}/shim <<'END'\n{script}END\n"
        f"chmod 755 {KEEP}/shim; for each in /usr/bin/docker /usr/local/bin/docker; do [ ! -x $each ] || mount --bind {KEEP}/shim $each; done"
    )


UNSHIM = on_server(
    f"for each in /usr/local/bin/docker /usr/bin/docker {KEEP}/docker; do umount $each; done 2>/dev/null; true"
)


def kill_client(scene: Scene) -> None:
    """The client is gone between two instructions."""
    scene.client.kill()


def interrupt_client(scene: Scene) -> None:
    """Somebody presses Ctrl-C."""
    scene.client.send_signal(signal.SIGINT)


def stop_client(scene: Scene) -> None:
    """The operator's machine goes to sleep: nothing is closed, nothing answers."""
    os.kill(scene.client.pid, signal.SIGSTOP)


def wake_client(scene: Scene) -> None:
    """And wakes up later."""
    os.kill(scene.client.pid, signal.SIGCONT)


def fill_records(scene: Scene) -> None:
    """No byte more can be kept on the operator's side."""
    with (scene.base / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def empty_records(scene: Scene) -> None:
    """There is room again."""
    (scene.base / "filler").unlink()


def second_operator(scene: Scene) -> None:
    """A colleague does the same change from another machine, and is heard to the end."""
    base = scene.base / "colleague"
    base.mkdir()
    client = Client(order_for(scene.host, base, WINDOW_S, "", {}))
    client.end()


def clock_jumps(by: str) -> Act:
    """Every program that is started from now on sees another day (libfaketime); the kernel's own count of time is not moved."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), "")
    return on_server(f"echo '{by}' >/etc/faketimerc && echo {library} >/etc/ld.so.preload")


CLOCK_IS_SET = on_server("rm -f /etc/ld.so.preload /etc/faketimerc")


def small_disks(host: RealHost) -> None:
    """conf_dir and state_dir come to lie on small file systems of their own."""
    host.run(
        f"mkdir -p {KEEP}/small /var/lib/apstra-runbook && chmod 700 /var/lib/apstra-runbook && mountpoint -q {CONF_DIR} || {{ "
        f"mount -t tmpfs -o size=48m,mode=755 tmpfs {KEEP}/small && mkdir {KEEP}/small/conf && cp -a {CONF_DIR}/. {KEEP}/small/conf/ &&"
        f"mount --bind {KEEP}/small/conf {CONF_DIR} && mount -t tmpfs -o size=64m,mode=700 tmpfs /var/lib/apstra-runbook &&"
        "docker restart aos_nginx_1; }",
        timeout_s=60,
    )


def large_disks(scene: Scene) -> None:
    """What was filled is emptied."""
    scene.host.run(f"rm -f {KEEP}/small/filler /var/lib/apstra-runbook/filler")


OTHER_PAIR = (
    f"cd {CONF_DIR} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=somebody.else "
    "-keyout nginx.key -out nginx.crt 2>/dev/null && docker restart aos_nginx_1"
)
MISMATCH = f"cd {CONF_DIR} && openssl genrsa -out nginx.key 2048 2>/dev/null"
SHELLS = "for each in $(pgrep -x sudo); do pkill -KILL -x -P $each sh; done; true"
# of the install: 1 puts the guard in place, 2 arms it, 3 swaps, 4 lets nginx test, 5 restarts it, 6 looks
TO_THE_SWAP = ("back up", "make", "sign", "install:1", "install:2")
ARMED = ("install:2:after", "install:3", "install:4", "install:5", "install:6", "confirm")
ACTIVATED = ("install:3:after", "install:4", "install:5:before")
SLOW = shim(
    f'restart*) {KEEP}/docker "$@"; {KEEP}/docker pause aos_nginx_1; '
    f"(sleep 30; {KEEP}/docker unpause aos_nginx_1) >/dev/null 2>&1 & exit 0 ;;"
)

FAULTS = (
    Fault("client killed (SIGKILL)", kill_client, frees_client=False),
    Fault("client interrupted (SIGINT)", interrupt_client),
    Fault("SSH cut: the server's end is killed", on_server("pkill -KILL -f '^sshd: admin'; true")),
    Fault("SSH silent: the client sleeps past the window", stop_client, wake_client, WINDOW_S + 3, points=("install", "confirm")),
    Fault("root shell killed", on_server(SHELLS)),
    Fault("sudo ticket lost", on_server("rm -rf /run/sudo/ts/*"), points=("install", "confirm")),
    Fault(
        "disk full in state_dir", on_server(FULL.format("/var/lib/apstra-runbook")), large_disks,
        WINDOW_S + 3, before=small_disks,
    ),
    Fault(
        "disk full in conf_dir", on_server(FULL.format(f"{KEEP}/small")), large_disks, WINDOW_S + 3,
        points=("install", "confirm"), before=small_disks,
    ),
    Fault(
        "conf_dir read-only", on_server(f"mount -o remount,bind,ro {CONF_DIR}"), on_server(f"mount -o remount,bind,rw {CONF_DIR}"),
        WINDOW_S + 3, points=("install",), before=small_disks,
    ),
    Fault("dockerd hangs", on_server("pkill -STOP -x dockerd"), on_server("pkill -CONT -x dockerd"), WINDOW_S + 3, points=ARMED),
    Fault("restart fails (shim)", shim("restart*) echo 'Error response from daemon' >&2; exit 1 ;;"), UNSHIM, WINDOW_S + 3, points=ACTIVATED),
    Fault("restart hangs (shim)", shim("restart*) exec sleep 600 ;;"), UNSHIM, WINDOW_S + 3, points=ACTIVATED),
    Fault("restart lost: nginx goes on with the old pair (shim)", shim("restart*) exit 0 ;;"), UNSHIM, 2, points=ACTIVATED),
    Fault(
        "reload lost (shim)", shim("*'-s reload') exit 0 ;;"), UNSHIM, WINDOW_S + 3, points=ACTIVATED, values=(("activation", "reload"),),
    ),
    Fault("container answers after 30 s, past the window (shim)", SLOW, UNSHIM, WINDOW_S + 3, points=ACTIVATED),
    Fault("container answers after 30 s, within the window (shim)", SLOW, UNSHIM, 25, points=ACTIVATED, window_s=120),
    Fault(
        "crash loop: a stray .conf appears", on_server(f"echo 'no nginx' >{CONF_DIR}/zz.conf"), on_server(f"rm -f {CONF_DIR}/zz.conf"),
        WINDOW_S + 3, points=("install:2:after", "install:3", "install:4", "install:5:before"),
    ),
    Fault(
        "container gone", on_server("docker rm -f aos_nginx_1"), on_server(f"{INSIDE} - containers"), WINDOW_S + 3, points=ARMED,
    ),
    Fault("pair changed by somebody else", on_server(OTHER_PAIR), points=TO_THE_SWAP, foreign=True),
    Fault(
        "live pair broken as found", kill_client, points=("install", "confirm"), frees_client=False,
        values=(("accept_broken_start", True),), before=lambda host: host.run(MISMATCH),
    ),
    Fault(
        "server restarted (its unit at boot stood in for)", on_server(f"{INSIDE} - reboot"), points=("back up", "make", "sign", *ARMED),
    ),
    Fault("a colleague does the same at the same time", second_operator, points=(*TO_THE_SWAP, *ARMED), foreign=True),
    Fault("the server's clock jumps a year ahead", clock_jumps("+365d"), CLOCK_IS_SET, WINDOW_S + 3, points=(*TO_THE_SWAP, *ARMED)),
    Fault("the server's clock jumps a year back", clock_jumps("-365d"), CLOCK_IS_SET, WINDOW_S + 3, points=ARMED),
    Fault("local disk full under records", fill_records, empty_records, WINDOW_S + 3, small_base=True),
    Fault(
        "restore.sh by hand", lambda scene: scene.host.run(f"sh {scene.change_folder}/restore.sh", timeout_s=90),
        points=(*ARMED[:-1], "confirm:1:before"),
    ),
)  # fmt: skip
