"""The embedded server's own business: its folder, its knobs, its command, many at once."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from runbook_lib.lab import PracticeServer
from runbook_lib.lab.folder import UnsafeFolderError
from tests.embedded import EmbeddedHost
from tests.servers import served_leaf, wait_until
from tests.ssh_client import run, run_as_root

PROJECT = Path(__file__).parents[2]
PracticeHost = Callable[..., EmbeddedHost]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "server"


@pytest.fixture
def command(root: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m runbook_lib.lab` on free ports, ready, in a child of a shell of its own."""
    line = [
        sys.executable,
        "-m",
        "runbook_lib.lab",
        "--root",
        str(root),
        "--ssh-port",
        "0",
        "--https-port",
        "0",
        "--exit-with-parent",
    ]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdout
    assert process.stdout.readline().startswith("practice server ready: ssh 127.0.0.1:")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_folder_is_closed_to_others(root: Path) -> None:
    """The folder is 0700, secrets are 0600, the pair has the modes of a real server."""
    with PracticeServer(root) as server:
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        secret = (
            "sudo_password",
            "id_ed25519",
            "ca-key.pem",
            "ca_key_password",
            "ssh_host_ed25519_key",
            "etc/aos/nginx.conf.d/nginx.key",
        )
        assert {name: stat.S_IMODE((root / name).stat().st_mode) for name in secret} == dict.fromkeys(secret, 0o600)
        assert stat.S_IMODE((server.conf_dir / "nginx.crt").stat().st_mode) == 0o644
        assert not server.state_dir.exists()


def test_a_folder_that_is_not_safe_is_refused(root: Path) -> None:
    """A link, a file, a folder open to others and one in use are refused, and say why."""
    (root.parent / "open").mkdir(mode=0o755)
    (root.parent / "file").touch()
    (root.parent / "link").symlink_to(root.parent / "open")
    for name, why in (("open", "open to others"), ("file", "not a folder"), ("link", "not a folder")):
        with pytest.raises(UnsafeFolderError, match=why):
            PracticeServer(root.parent / name).start()
    with PracticeServer(root), pytest.raises(UnsafeFolderError, match="in use"):
        PracticeServer(root).start()


def test_state_survives_a_restart_of_the_server(root: Path) -> None:
    """Host key, secrets, pair and HTTPS port are the same the second time; other ports are refused."""
    with PracticeServer(root) as server:
        port, leaf = server.https_port, served_leaf("127.0.0.1", server.https_port)
        kept = {
            name: (root / name).read_bytes()
            for name in ("ssh_host_ed25519_key.pub", "sudo_password", "ca.pem", "id_ed25519")
        }
    with PracticeServer(root) as server:
        assert (server.https_port, served_leaf("127.0.0.1", port)) == (port, leaf)
        assert {name: (root / name).read_bytes() for name in kept} == kept
    with pytest.raises(UnsafeFolderError, match=f"HTTPS port {port}"):
        PracticeServer(root, https_port=port + 1).start()


def test_a_port_that_is_taken_is_an_error(root: Path) -> None:
    """The start fails with the system's error, and the folder can be used again."""
    with PracticeServer(root) as server, pytest.raises(OSError, match="in use"):
        PracticeServer(root.parent / "other", ssh_port=server.ssh_port).start()
    with PracticeServer(root.parent / "other"):
        pass


def test_it_starts_on_files_that_nginx_refuses(root: Path) -> None:
    """A server stopped with a broken pair starts again and crash-loops until the pair is mended."""
    with PracticeServer(root) as server:
        good = (server.conf_dir / "nginx.key").read_bytes()
    (server.conf_dir / "nginx.key").write_text("broken")
    with PracticeServer(root) as server:
        with pytest.raises(ConnectionRefusedError):
            served_leaf("127.0.0.1", server.https_port)
        (server.conf_dir / "nginx.key").write_bytes(good)
        wait_until(lambda: bool(served_leaf("127.0.0.1", server.https_port)))


def test_the_practice_ca_can_sign(root: Path) -> None:
    """Certificate and encrypted key belong together, and the certificate is a CA's."""
    with PracticeServer(root) as server:
        options = server.signing["signer_options"]
        password = Path(options["ca_key_password"].removeprefix("file:")).read_bytes()
        key = load_pem_private_key(Path(options["ca_key"]).read_bytes(), password)
        certificate = x509.load_pem_x509_certificate(Path(options["ca_certificate"]).read_bytes())
        assert certificate.public_key() == key.public_key()
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        with pytest.raises(TypeError):
            load_pem_private_key(Path(options["ca_key"]).read_bytes(), None)


@pytest.mark.asyncio
async def test_what_is_not_imitated_says_so(practice: EmbeddedHost) -> None:
    """Unknown verbs, flags and templates of docker and options of sudo fail loudly."""
    for command in (
        "logs aos_nginx_1",
        "ps --size",
        "exec -it aos_nginx_1 sh",
        "exec aos_nginx_1 sh -c id",
        "inspect --format '{{len .Mounts}}' aos_nginx_1",
    ):
        result = await run_as_root(practice, f"docker {command}")
        assert (result.status, "the practice server does not imitate" in result.stderr) == (125, True), command
    for command in ("sudo -i", "sudo A=b true", "sudo -S -p %u true"):
        result = await run(practice, command)
        assert (result.status, "the practice server does not imitate" in result.stderr) == (1, True), command


@pytest.mark.asyncio
async def test_wrong_passwords_are_counted(practice: EmbeddedHost) -> None:
    """A test can tell how often sudo was given a wrong password."""
    await run(practice, "sudo -S true", "wrong\nwrong too\n")
    assert (practice.practice.root / "sudo.log").read_text().count("\n") == 2


@pytest.mark.asyncio
async def test_a_closing_server_takes_its_processes_along(root: Path) -> None:
    """What a command has detached ends with the server."""
    async with PracticeServer(root, nopasswd=True) as server:
        host = EmbeddedHost(server)
        pid = int((await run(host, "sudo setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!")).stdout)
        assert Path(f"/proc/{pid}").exists()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split())


def test_nobody_may_be_able_to_connect_to_nginx(practice_host: PracticeHost) -> None:
    """With `https=False` the container runs and connections are refused."""
    host = practice_host(https=False)
    with pytest.raises(ConnectionRefusedError):
        host.served()
    assert "Up " in host.run("docker ps --filter name=nginx").stdout


def test_a_deep_folder_works(tmp_path: Path) -> None:
    """A path longer than a socket address takes is no obstacle."""
    with PracticeServer(tmp_path / ("long" * 30)) as server:
        assert "aos_nginx_1" in EmbeddedHost(server).run("docker ps").stdout


def test_one_process_holds_many(tmp_path: Path) -> None:
    """Fifty servers start within seconds, and each has ports and a host key of its own."""
    servers = [PracticeServer(tmp_path / str(number)) for number in range(50)]
    start = time.monotonic()
    for server in servers:
        server.start()
    try:
        assert time.monotonic() - start < 20
        assert len({server.https_port for server in servers} | {server.ssh_port for server in servers}) == 100
        assert len({server.root.joinpath("ssh_host_ed25519_key.pub").read_text() for server in servers}) == 50
    finally:
        for server in servers:
            server.close()


def test_the_command_stops_on_sigterm(command: subprocess.Popen[str], root: Path) -> None:
    """SIGTERM ends it with status 0 and frees the folder."""
    command.send_signal(signal.SIGTERM)
    assert command.wait(timeout=10) == 0
    with PracticeServer(root):
        pass


def test_the_command_ends_with_its_parent(root: Path) -> None:
    """With `--exit-with-parent` it ends when the shell that started it was killed."""
    line = f"{sys.executable} -m runbook_lib.lab --root {root} --ssh-port 0 --https-port 0 --exit-with-parent & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", line], stdout=subprocess.PIPE, text=True, cwd=PROJECT) as shell:
        assert shell.stdout
        pid = int(shell.stdout.readline())
        assert shell.stdout.readline().startswith("practice server ready")
        shell.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split())


def test_the_command_says_why_it_does_not_start(tmp_path: Path) -> None:
    """An unusable folder is one line on stderr and status 1, not a traceback."""
    tmp_path.chmod(0o755)
    line = [sys.executable, "-m", "runbook_lib.lab", "--root", str(tmp_path), "--ssh-port", "0", "--https-port", "0"]
    result = subprocess.run(line, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=30)
    assert result.returncode == 1
    assert result.stderr.startswith("the practice server does not start: ")
    assert result.stderr.count("\n") == 1


def test_lab_yaml_points_at_the_default_server() -> None:
    """The committed parameters are those of a server with the default folder and ports."""
    from runbook_lib.lab.__main__ import DEFAULT_ROOT  # noqa: PLC0415 - runs nothing when imported

    server = PracticeServer(DEFAULT_ROOT, ssh_port=8022, https_port=8443)
    given = yaml.safe_load((PROJECT / "parameters/lab.yaml").read_text())
    assert given.items() >= (server.parameters | server.signing).items()
