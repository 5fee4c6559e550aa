"""An operator at the embedded and the real server in turn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.secrets import REGISTRY
from tests.change.operator import Operator
from tests.servers import ServerUnderTest


@pytest.fixture
def operator(server: ServerUnderTest, tmp_path: Path) -> Operator:
    """Somebody with this server's parameters."""
    return Operator(server, tmp_path)


@pytest.fixture
def operator_of(server_with: Callable[..., ServerUnderTest], tmp_path: Path) -> Callable[..., Operator]:
    """Somebody with the parameters of a server of both kinds in turn that has these options."""
    return lambda **options: Operator(server_with(**options), tmp_path)


@pytest.fixture(autouse=True)
def _no_secrets_left() -> Iterator[None]:
    yield
    REGISTRY.clear()
