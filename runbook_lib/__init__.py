"""Replace the HTTPS certificate of a Juniper Apstra server, one checked step at a time."""

import importlib.metadata

VERSION = importlib.metadata.version("apstra-certificate-runbooks")
