"""What the embedded and the real server have to have in common, seen with plain SSH and TLS clients."""

from tests.servers import ServerUnderTest, wait_until


def test_both_serve_the_first_pair_and_reset_brings_it_back(server: ServerUnderTest) -> None:
    """After anything a test did, `reset` restores files and service."""
    first, leaf = server.snapshot(), server.served()
    conf_dir = server.parameters["conf_dir"]
    server.run(f"cd {conf_dir} && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 3 -keyout nginx.key -out nginx.crt; docker restart aos_nginx_1")
    wait_until(lambda: server.served() != leaf)
    server.reset()
    assert server.served() == leaf
    assert {name: state.sha256 for name, state in server.snapshot().items()} == {name: state.sha256 for name, state in first.items()}
