"""environment.yml, pyproject.toml, requirements.lock and what is installed say the same."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
LOCK = (TOP / "requirements.lock").read_text()
LOCKED = [Requirement(line.removesuffix("\\").strip()) for line in LOCK.splitlines() if re.match(r"[a-z0-9]", line)]
HERE = [each for each in LOCKED if each.marker is None or each.marker.evaluate()]


def named(requirements: list[Requirement]) -> dict[str, str]:
    """Version ranges by normalised name."""
    return {canonicalize_name(each.name): str(each.specifier) for each in requirements}


def test_conda_users_get_the_same() -> None:
    """environment.yml asks for exactly what pyproject.toml asks for, the Python version included, and for this project."""
    *packages, pip_name, pip = yaml.safe_load((TOP / "environment.yml").read_text())["dependencies"]
    asked = [Requirement(each) for each in PROJECT["dependencies"]]
    python = Requirement(f"python{PROJECT['requires-python']}")
    assert named([Requirement(each) for each in packages]) == named([python, *asked])
    assert (pip_name, pip) == ("pip", {"pip": ["--editable ."]})


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_the_lock_holds_what_is_asked_for(text: str) -> None:
    """Every direct dependency is locked to a version in its range."""
    asked = Requirement(text)
    locked = [each for each in HERE if canonicalize_name(each.name) == canonicalize_name(asked.name)]
    assert len(locked) == 1
    (pin,) = locked[0].specifier
    assert pin.operator == "=="
    assert asked.specifier.contains(pin.version)


def test_what_is_installed_is_what_is_locked() -> None:
    """Every locked distribution is installed in its locked version, and nothing beside them but pip and this project."""
    installed = {canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()}
    locked = {canonicalize_name(each.name): next(iter(each.specifier)).version for each in HERE}
    beside = {"pip", "setuptools", canonicalize_name(PROJECT["name"])}
    assert {name: version for name, version in installed.items() if name not in beside} == locked


def test_every_locked_file_has_its_hash_and_no_place() -> None:
    """The lock names hashes and no host, index or path, so that it fits every mirror."""
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    assert len(blocks) == len(LOCKED)
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"https?://\S+|--(?:extra-)?index-url|file:\S+", LOCK) == []


def test_a_bundle_fits_every_release_of_its_python() -> None:
    """No version hangs on Python's third number: what was packed with 3.11.7 is installed with 3.11.2."""
    exact = [each for each in LOCKED if re.search(r"'[0-9]+\.[0-9]+\.[0-9]+'", str(each.marker).replace('"', "'"))]
    assert not exact


def test_the_installed_distributions_fit_one_another() -> None:
    """pip finds no distribution that lacks another or has a wrong version of it."""
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
