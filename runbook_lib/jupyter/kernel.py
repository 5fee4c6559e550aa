"""The kernel of headless runs: ipykernel with the libraries of the runbooks already loaded."""

import pandas as pd  # noqa: F401 - loaded while the conductor is still starting
from ipykernel import kernelapp

import runbook_lib.jupyter.bind  # noqa: F401 - the same

if __name__ == "__main__":
    kernelapp.launch_new_instance()
