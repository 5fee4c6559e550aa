"""nginx's configuration language, as far as the files of `conf_dir` use it; errors in nginx's own words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CONTAINER_DIR = "/etc/nginx/conf.d"
MAIN_FILE = "/etc/nginx/nginx.conf"
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<mark>[;{}])|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'|(?P<bare>[^\s;{}]+)""",
    re.DOTALL,
)
_EVERYWHERE = [
    "access_log",
    "add_header",
    "client_max_body_size",
    "default_type",
    "error_log",
    "error_page",
    "gzip",
    "index",
    "keepalive_timeout",
    "proxy_buffering",
    "proxy_connect_timeout",
    "proxy_http_version",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "root",
    "sendfile",
    "server_tokens",
]
_HTTP_AND_SERVER = [
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_ciphers",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "large_client_header_buffers",
]
_ALLOWED_IN = (
    {name: {"http", "server", "location"} for name in _EVERYWHERE}
    | {name: {"http", "server"} for name in _HTTP_AND_SERVER}
    | {name: {"server", "location"} for name in ("location", "return", "rewrite", "try_files")}
    | {name: {"server"} for name in ("listen", "server_name")}
    | {name: {"location"} for name in ("alias", "proxy_pass")}
    | {"server": {"http"}, "upstream": {"http"}, "map": {"http"}}
)
_BLOCKS = {"server", "location", "upstream", "map"}


class EmergencyError(Exception):
    """What nginx would print after `[emerg]`."""


@dataclass
class Configuration:
    """What the practice nginx takes from the configuration.

    Attributes:
        listen: Host and port of the first TLS listener, None without one.
        pairs: Certificate and key files, as paths inside the container.
    """

    listen: tuple[str, int] | None = None
    pairs: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Directive:
    words: tuple[str, ...]
    context: str
    depth: int


def read_configuration(files: dict[str, Path]) -> Configuration:
    """Read the files that nginx includes, in its order.

    Args:
        files: File on the server by path inside the container.

    Raises:
        EmergencyError: nginx would not start on it.
    """
    configuration = Configuration()
    for name in sorted(files):
        certificate = key = ""
        for directive in _directives(name, _text(name, files[name])):
            match directive.words:
                case ["server", *_]:
                    certificate = key = ""
                case ["listen", address, "ssl", *_]:
                    configuration.listen = configuration.listen or _address(address)
                case ["ssl_certificate", path]:
                    certificate = path
                case ["ssl_certificate_key", path]:
                    key = path
            if certificate and key and directive.words[0].startswith("ssl_certificate"):
                configuration.pairs.append((certificate, key))
    return configuration


def _text(name: str, file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except IsADirectoryError:
        raise EmergencyError(f'pread() "{name}" failed (21: Is a directory)') from None
    except OSError as error:
        raise EmergencyError(f'open() "{name}" failed ({error.errno}: {error.strerror})') from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - nginx's own default


def _directives(name: str, text: str) -> Iterator[_Directive]:
    """Every directive of a file, outer ones first.

    Raises:
        EmergencyError: nginx would not read the file.
    """
    stack, words, line = ["http"], [], 1
    for token in _TOKEN.finditer(text):
        place = f"in {name}:{line}"
        line += token.group().count("\n")
        if word := _word(token):
            words.append(word)
        elif mark := token["mark"]:
            if mark == "}" and not words:
                if len(stack) == 1:
                    raise EmergencyError(f'unexpected "}}" {place}')
                stack.pop()
                continue
            if not words or mark == "}":
                raise EmergencyError(f'unexpected "{mark}" {place}')
            _allow(words[0], stack[-1], place, block=mark == "{")
            yield _Directive(tuple(words), stack[-1], len(stack))
            if mark == "{":
                stack.append(words[0])
            words = []
    if words or len(stack) > 1:
        expected = '";" or "}"' if words else '"}"'
        raise EmergencyError(f"unexpected end of file, expecting {expected} in {name}:{line}")


def _word(token: re.Match[str]) -> str:
    return token["bare"] or token["double"] or token["single"] or ""


def _allow(name: str, context: str, place: str, *, block: bool) -> None:
    if context in {"upstream", "map"}:
        return
    if name not in _ALLOWED_IN:
        raise EmergencyError(f'unknown directive "{name}" {place}')
    if context not in _ALLOWED_IN[name]:
        raise EmergencyError(f'"{name}" directive is not allowed here {place}')
    if block != (name in _BLOCKS):
        raise EmergencyError(f'directive "{name}" has {"no opening" if not block else "an unexpected"} "{{" {place}')
