"""What the embedded and the real server have in common: docker, and nginx on good and bad files."""

import contextlib
import http.client
import json
import ssl
from collections.abc import Callable

import pytest

from tests.servers import ServerUnderTest, wait_until

ServerWith = Callable[..., ServerUnderTest]
NGINX = "aos_nginx_1"
NEW_PAIR = (
    "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=new -days 3 -keyout nginx.key -out nginx.crt 2>/dev/null"
)
EC_CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=new -days 3 -keyout /dev/null -out nginx.crt"
UNUSABLE = {
    "another key": "openssl genrsa -out nginx.key 2048",
    "encrypted key": "openssl pkey -in nginx.key -aes128 -passout pass:long-enough -out other && mv other nginx.key",
    "no key": "rm nginx.key",
    "no certificate": "rm nginx.crt",
    "text as certificate": "echo '<html>no certificate</html>' >nginx.crt",
    "text as key": "echo nothing >nginx.key",
    "DER certificate": "openssl x509 -in nginx.crt -outform der -out other && mv other nginx.crt",
    "broken chain": "printf '%s\\n' '-----BEGIN CERTIFICATE-----' xxxx '-----END CERTIFICATE-----' >>nginx.crt",
    "RSA of 1024 bits": "openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=new -days 3 -keyout nginx.key -out nginx.crt",
    "OpenSSL template": "printf '[req]\\ndistinguished_name = dn\\n[dn]\\n' >request.conf",
    "unknown directive": "echo 'nonsense on;' >stray.conf",
    "directive in a wrong place": "echo 'listen 81;' >stray.conf",
    "closing brace": "echo '}' >stray.conf",
    "unclosed block": "echo 'server {' >stray.conf",
    "folder named like a file": "mkdir stray.conf",
}
USABLE = {
    "as it is": "true",
    "new pair": NEW_PAIR,
    "empty file": ": >stray.conf",
    "comment": "echo '# nothing' >stray.conf",
    "template of another name": "echo '[req]' >request.cnf",
    "hidden file": "echo nonsense >.stray.conf",
    "expired certificate": "openssl req -x509 -key nginx.key -subj /CN=old -days -1 -out nginx.crt 2>/dev/null || openssl x509 -in nginx.crt -signkey nginx.key -days -1 -out nginx.crt",
    "EC certificate and RSA key": EC_CERTIFICATE,
}


def prepare(server: ServerUnderTest, commands: str) -> None:
    """Run commands in conf_dir."""
    result = server.run(f"cd {server.parameters['conf_dir']} && {{ {commands}; }}")
    assert result.returncode == 0, result.stderr


def state(server: ServerUnderTest) -> tuple[str, int]:
    """Status and restart count of nginx's container."""
    said = json.loads(server.run(f"docker inspect {NGINX}").stdout)[0]
    return said["State"]["Status"], said["RestartCount"]


@pytest.mark.parametrize("case", UNUSABLE)
def test_nginx_refuses(server: ServerUnderTest, case: str) -> None:
    """`nginx -t` and a reload exit 1 and name the reason, and the old pair goes on serving."""
    leaf = server.served()
    prepare(server, UNUSABLE[case])
    test = server.run(f"docker exec {NGINX} nginx -t")
    assert (test.returncode, test.stdout) == (1, "")
    assert test.stderr.endswith("nginx: configuration file /etc/nginx/nginx.conf test failed\n")
    assert "[emerg]" in test.stderr or "[crit]" in test.stderr
    assert server.run(f"docker exec {NGINX} nginx -s reload").returncode == 1
    assert server.served() == leaf


@pytest.mark.parametrize("case", USABLE)
def test_nginx_takes(server: ServerUnderTest, case: str) -> None:
    """`nginx -t` exits 0 and says so on stderr, and so does a reload."""
    prepare(server, USABLE[case])
    test = server.run(f"docker exec {NGINX} nginx -t")
    assert (test.returncode, test.stdout) == (0, "")
    assert test.stderr.endswith("nginx: configuration file /etc/nginx/nginx.conf test is successful\n")
    assert server.run(f"docker exec {NGINX} nginx -s reload").returncode == 0


def test_a_reload_serves_the_new_pair(server: ServerUnderTest) -> None:
    """After a reload, soon, the new leaf is served and the container has not restarted."""
    leaf, before = server.served(), state(server)
    prepare(server, NEW_PAIR)
    assert server.run(f"docker exec {NGINX} nginx -s reload").returncode == 0
    wait_until(lambda: server.served() != leaf)
    assert state(server) == before == ("running", 0)


def test_a_restart_serves_the_new_pair_and_is_an_outage(server: ServerUnderTest) -> None:
    """`docker restart` prints the name, starts the container anew and refuses connections for a moment."""
    leaf = server.served()
    started = json.loads(server.run(f"docker inspect {NGINX}").stdout)[0]["State"]["StartedAt"]
    prepare(server, NEW_PAIR)
    result = server.run(
        f"docker restart -t 5 {NGINX} & while openssl s_client -connect {_address(server)} </dev/null >/dev/null 2>&1; do :; done; wait"
    )
    assert (result.returncode, result.stdout) == (0, f"{NGINX}\n")
    wait_until(lambda: server.served() != leaf)
    assert json.loads(server.run(f"docker inspect {NGINX}").stdout)[0]["State"]["StartedAt"] > started
    assert state(server) == ("running", 0)


@pytest.mark.parametrize("case", ["another key", "OpenSSL template"])
def test_a_restart_on_bad_files_succeeds_and_then_crash_loops(server: ServerUnderTest, case: str) -> None:
    """`docker restart` exits 0 all the same; then the count rises, exec is turned down, and mended files end it."""
    prepare(server, f"cp -a . ../good && {UNUSABLE[case]}")
    assert server.run(f"docker restart {NGINX}").returncode == 0
    wait_until(lambda: state(server)[1] >= 4)  # by then it waits for more than a second between two tries
    wait_until(lambda: state(server)[0] == "restarting")
    turned_down = server.run(f"docker exec {NGINX} nginx -t")
    assert turned_down.returncode == 1
    assert "is restarting, wait until the container is running" in turned_down.stderr
    assert server.run("docker ps --filter status=restarting --format '{{.Names}}'").stdout == f"{NGINX}\n"
    with pytest.raises(ConnectionRefusedError):
        server.served()
    prepare(server, "find . -mindepth 1 -delete && cp -a ../good/. .")
    wait_until(lambda: bool(server.served()))
    assert state(server)[0] == "running"
    server.run(f"docker restart {NGINX}")
    wait_until(lambda: bool(server.served()))
    assert state(server) == ("running", 0)


def test_an_ec_certificate_with_an_rsa_key_fails_every_handshake(server: ServerUnderTest) -> None:
    """nginx starts on it and runs on; each client gets the alert `handshake failure`."""
    prepare(server, EC_CERTIFICATE)
    server.run(f"docker restart {NGINX}")

    def fails_by_alert() -> bool:
        try:
            server.served()
        except ssl.SSLError as error:
            return error.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"
        return False

    wait_until(fails_by_alert)
    assert state(server) == ("running", 0)


def test_the_whole_chain_is_sent(server: ServerUnderTest) -> None:
    """Every certificate of nginx.crt reaches the client, in the file's order."""
    prepare(server, f"cp nginx.crt old && {NEW_PAIR} && cat old >>nginx.crt && rm old")
    server.run(f"docker restart {NGINX}")
    wait_until(
        lambda: (
            server.run(f"openssl s_client -connect {_address(server)} -showcerts </dev/null").stdout.count(
                "BEGIN CERTIFICATE"
            )
            == 2
        )
    )


def test_inspect_says_what_facts_are_read_from(server: ServerUnderTest) -> None:
    """The keys that are read from `docker inspect`, by name and by id, and through a template."""
    ids = server.run("docker ps --all --quiet --no-trunc").stdout.split()
    every = json.loads(server.run(f"docker inspect {' '.join(ids)}").stdout)
    assert len(every) == len(ids) > 1
    (nginx,) = [each for each in every if each["Name"] == f"/{NGINX}"]
    assert nginx["Id"] in ids
    assert nginx["RestartCount"] == 0
    expected = {"Status": "running", "Running": True, "Restarting": False, "ExitCode": 0}
    assert {key: nginx["State"][key] for key in expected} == expected
    assert nginx["State"]["Pid"] > 0
    assert nginx["State"]["StartedAt"].endswith("Z")
    (mount,) = nginx["Mounts"]
    assert (mount["Type"], mount["RW"]) == ("bind", True)
    assert (mount["Source"], mount["Destination"]) == (server.parameters["conf_dir"], "/etc/nginx/conf.d")
    assert nginx["HostConfig"]["NetworkMode"] == "host"
    assert {"Image", "User", "Cmd"} <= nginx["Config"].keys()
    template = "{{.State.Status}} {{.RestartCount}} {{.State.Running}} {{.Id}}"
    assert server.run(f"docker inspect --format '{template}' {NGINX}").stdout == f"running 0 true {nginx['Id']}\n"


def test_docker_says_no_in_its_own_words(server: ServerUnderTest) -> None:
    """Unknown containers, verbs and flags: a status that is not 0, and text on stderr."""
    for command, status, said in (
        ("docker inspect nosuch", 1, "Error: No such object: nosuch"),
        ("docker exec nosuch nginx -t", 1, "Error: No such container: nosuch"),
        ("docker restart nosuch", 1, "Error response from daemon: No such container: nosuch"),
        ("docker ps --nonsense", 125, "--nonsense"),
    ):
        result = server.run(command)
        assert (result.returncode, said in result.stderr) == (status, True), command
    assert server.run("docker nonsense").returncode != 0


def test_ps_filters_and_formats(server: ServerUnderTest) -> None:
    """Filters by name and status, the short id, and a template of columns."""
    row = server.run("docker ps --filter name=nginx --format '{{.ID}} {{.Names}} {{.State}}'").stdout.split()
    assert row[1:] == [NGINX, "running"]
    assert server.run("docker ps -q --filter name=nginx").stdout == f"{row[0]}\n"
    assert server.run("docker ps --filter name=nginx --filter status=restarting -q").stdout == ""
    assert server.run("docker ps -a").stdout.startswith("CONTAINER ID")


def test_files_mounted_one_by_one_keep_their_inode_until_a_restart(server_with: ServerWith) -> None:
    """nginx does not see a file that was renamed over a mounted one, sees one written in place, and both after a restart."""
    server = server_with(mount="files")
    leaf = server.served()
    prepare(server, "cp nginx.crt good && echo garbage >other && mv other nginx.crt")
    assert server.run(f"docker exec {NGINX} nginx -t").returncode == 0
    prepare(server, "mv good nginx.crt")
    server.run(f"docker restart {NGINX}")
    wait_until(lambda: server.served() == leaf)
    prepare(server, "cp nginx.crt ../good && echo garbage >nginx.crt")
    assert server.run(f"docker exec {NGINX} nginx -t").returncode == 1
    prepare(
        server,
        "cat ../good >nginx.crt && mkdir ../new && cd ../new && "
        + NEW_PAIR
        + " && mv nginx.crt nginx.key ../nginx.conf.d/",
    )
    server.run(f"docker restart {NGINX}")
    wait_until(lambda: server.served() != leaf)
    assert len(json.loads(server.run(f"docker inspect {NGINX}").stdout)[0]["Mounts"]) == 3


def test_a_worker_has_no_nginx(server_with: ServerWith) -> None:
    """A worker node runs its node keeper, and nobody listens for HTTPS."""
    server = server_with(role="worker")
    assert server.run("docker ps --format '{{.Names}}'").stdout == "aos_node_keeper_1\n"
    with pytest.raises(ConnectionRefusedError):
        server.served()


def test_the_container_may_have_another_name(server_with: ServerWith) -> None:
    """Compose v2 writes dashes."""
    server = server_with(container="aos-nginx-1")
    assert "aos-nginx-1" in server.run("docker ps --format '{{.Names}}'").stdout.split()


def test_the_api_answers(server: ServerUnderTest) -> None:
    """`GET /api/version` is JSON with a version, and the page is HTML."""
    status, content_type, body = get(server, "/api/version")
    assert (status, content_type, json.loads(body)["version"]) == (200, "application/json", "4.2.0")
    status, content_type, body = get(server, "/")
    assert (status, content_type, b"<h1>" in body) == (200, "text/html", True)


def test_the_api_may_be_away(server_with: ServerWith) -> None:
    """Without the API, its path answers with something that is no JSON."""
    _, content_type, body = get(server_with(api=False), "/api/version")
    assert (content_type, b'"version"' in body) == ("text/html", False)


def get(server: ServerUnderTest, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a GET request; no certificate is verified."""
    given = server.parameters
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - the pair under test is whatever a test made of it
    with contextlib.closing(
        http.client.HTTPSConnection(given["host"], given["https_port"], context=context, timeout=10)
    ) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.headers["Content-Type"], reply.read()


def _address(server: ServerUnderTest) -> str:
    return f"{server.parameters['host']}:{server.parameters['https_port']}"
