"""The Chromium that is installed here; nothing is ever downloaded."""

import os
import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def installed() -> str | None:
    """The path of the browser; None where there is none in PATH."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def flags() -> tuple[str, ...]:
    """What keeps it to its work; as root it does not start with a sandbox, so that there it runs without one."""
    return (*_QUIET, *(("--no-sandbox",) if os.geteuid() == 0 else ()))
