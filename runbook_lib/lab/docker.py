"""The `docker` command of the practice server: what the runbooks use of it, and a loud no to the rest."""

import argparse
import asyncio
import dataclasses
import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from runbook_lib.lab.container import Container
from runbook_lib.lab.nginx import Nginx
from runbook_lib.lab.nginxconf import MAIN_FILE, EmergencyError

NOT_IMITATED = 125
IN_ITS_PLACE = (
    1000  # no exit status: the shim runs the shell of `docker exec -i NAME sh -c` itself, with its own streams
)
_FIELD = re.compile(r"\{\{\s*(.*?)\s*\}\}")


@dataclass(frozen=True)
class Reply:
    """How a command ended."""

    status: int = 0
    stdout: str = ""
    stderr: str = ""


class DockerError(Exception):
    """A command that failed; carries its reply."""

    def __init__(self, status: int, stderr: str, stdout: str = "") -> None:
        super().__init__(stderr)
        self.reply = Reply(status, stdout, f"{stderr}\n")


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """No usage text: docker has another one."""
        raise _not_imitated(f"{self.prog}: {message}")


class Docker:
    """The docker daemon and client of one practice server."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self.containers = containers

    async def run(self, arguments: Sequence[str]) -> Reply:
        """Run `docker ARGUMENTS`; never raises for what a caller wrote."""
        verb, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
        try:
            match verb:
                case "ps":
                    return self._ps(rest)
                case "inspect":
                    return self._inspect(rest)
                case "exec":
                    return self._exec(rest)
                case "restart":
                    return await self._restart(rest)
                case "version" if not rest:
                    return Reply(
                        stdout="Client:\n Version:           20.10.24\n\nServer:\n Engine:\n  Version:          20.10.24\n"
                    )
            raise _not_imitated(" ".join(["docker", *arguments]))
        except DockerError as error:
            return error.reply

    def _ps(self, arguments: Sequence[str]) -> Reply:
        parser = _Arguments("docker ps", add_help=False, allow_abbrev=False)
        parser.add_argument("-a", "--all", action="store_true")
        parser.add_argument("-q", "--quiet", action="store_true")
        parser.add_argument("--no-trunc", action="store_true")
        parser.add_argument("--format", default="")
        parser.add_argument("-f", "--filter", action="append", default=[])
        options = parser.parse_args(arguments)
        listed = [
            each
            for each in self.containers
            if (options.all or each.status != "exited") and all(_kept(each, one) for one in options.filter)
        ]
        if options.quiet:
            return _lines(_row(each, no_trunc=options.no_trunc)["ID"] for each in listed)
        if options.format:
            return _lines(_filled(options.format, _row(each, no_trunc=options.no_trunc)) for each in listed)
        return _lines(_table([_row(each, no_trunc=options.no_trunc) for each in listed]))

    def _inspect(self, arguments: Sequence[str]) -> Reply:
        parser = _Arguments("docker inspect", add_help=False, allow_abbrev=False)
        parser.add_argument("-f", "--format", default="")
        parser.add_argument("names", nargs="+")
        options = parser.parse_args(arguments)
        found = [each for name in options.names for each in self.containers if _is_called(each, name)]
        described = [_description(each) for each in found]
        stdout = (
            "".join(_filled(options.format, each) + "\n" for each in described)
            if options.format
            else json.dumps(described, indent=4) + "\n"
        )
        for name in options.names:
            if not any(_is_called(each, name) for each in self.containers):
                raise DockerError(1, f"Error: No such object: {name}", "\n" if options.format and not found else stdout)
        return Reply(stdout=stdout)

    def _exec(self, arguments: Sequence[str]) -> Reply:
        kept_open = arguments[:1] == ["-i"]
        name, *command = arguments[kept_open:] or [""]
        if not name or name.startswith("-") or kept_open != (command[:2] == ["sh", "-c"]):
            raise _not_imitated(" ".join(["docker exec", *arguments]))
        container = self._find(name, "Error: No such container: {}")
        if container.status == "restarting":
            raise DockerError(
                1,
                f"Error response from daemon: Container {container.container_id} is restarting, wait until the container is running",
            )
        if container.status != "running":
            raise DockerError(1, f"Error response from daemon: Container {container.container_id} is not running")
        reply = _in_container(container.nginx, command) if container.nginx else None
        if reply is None:
            raise _not_imitated(" ".join(["docker exec", *arguments]))
        return reply

    async def _restart(self, arguments: Sequence[str]) -> Reply:
        parser = _Arguments("docker restart", add_help=False, allow_abbrev=False)
        parser.add_argument("-t", "--time", type=int)
        parser.add_argument("names", nargs="+")
        containers = [
            self._find(name, "Error response from daemon: No such container: {}")
            for name in parser.parse_args(arguments).names
        ]
        await asyncio.gather(*(each.restart() for each in containers))
        return _lines(each.name for each in containers)

    def _find(self, name: str, complaint: str) -> Container:
        found = [each for each in self.containers if _is_called(each, name)]
        if not found:
            raise DockerError(1, complaint.format(name))
        return found[0]


def _not_imitated(what: str) -> DockerError:
    return DockerError(NOT_IMITATED, f"docker: the practice server does not imitate this: {what}")


def _lines(lines: Iterable[str]) -> Reply:
    return Reply(stdout="".join(f"{line}\n" for line in lines))


def _is_called(container: Container, name: str) -> bool:
    return bool(name) and (container.name == name.removeprefix("/") or container.container_id.startswith(name))


def _kept(container: Container, condition: str) -> bool:
    key, _, value = condition.partition("=")
    match key:
        case "name":
            return re.search(value, f"/{container.name}") is not None
        case "status":
            return container.status == value
    raise _not_imitated(f"docker ps --filter {condition}")


def _row(container: Container, *, no_trunc: bool) -> dict[str, Any]:
    command = " ".join(container.command)
    return {
        "ID": container.container_id if no_trunc else container.container_id[:12],
        "Names": container.name,
        "Image": _image(container),
        "State": container.status,
        "Status": _status(container),
        "Command": f'"{command}"' if no_trunc or len(command) <= 20 else f'"{command[:19]}…"',  # noqa: PLR2004 - docker's width
        "Ports": "",
    }


def _table(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    titles = {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "Status": "STATUS",
        "Ports": "PORTS",
        "Names": "NAMES",
    }
    widths = {key: max(len(row[key]) for row in [*rows, titles]) + 3 for key in titles}
    for row in [titles, *rows]:
        yield "".join(row[key].ljust(widths[key]) for key in titles).rstrip()


def _status(container: Container) -> str:
    seconds = int((dt.datetime.now(dt.UTC) - container.started_at).total_seconds())
    age = f"{seconds} seconds" if seconds else "Less than a second"
    return {"running": f"Up {age}", "restarting": f"Restarting ({container.exit_code}) {age} ago"}.get(
        container.status, f"Exited ({container.exit_code}) {age} ago"
    )


def _filled(template: str, values: dict[str, Any]) -> str:
    """A Go template of plain fields, `{{.State.Status}}`, and `{{json .…}}`."""
    return _FIELD.sub(lambda found: _value(found[1], values), template.replace("\\t", "\t").replace("\\n", "\n"))


def _value(expression: str, values: dict[str, Any]) -> str:
    path = re.fullmatch(r"(json\s+)?\.([A-Za-z0-9.]*)", expression)
    found: Any = values
    for name in path[2].split(".") if path and path[2] else ():
        found = found.get(name) if isinstance(found, dict) else None
    if path is None or found is None or (isinstance(found, (dict, list)) and not path[1]):
        raise _not_imitated(f"the template {{{{{expression}}}}}")
    if path[1]:
        return json.dumps(found)
    return str(found).lower() if isinstance(found, bool) else str(found)


def _image(container: Container) -> str:
    return "nginx:1.14.2-upload-echo" if container.nginx else "aos:4.2.0-236"


def _description(container: Container) -> dict[str, Any]:
    """The part of `docker inspect` that says something about the practice server; docker has more keys."""
    running = container.status in {"running", "restarting"}
    return {
        "Id": container.container_id,
        "Created": _time(container.created),
        "Path": container.command[0],
        "Args": list(container.command[1:]),
        "State": {
            "Status": container.status,
            "Running": running,
            "Paused": False,
            "Restarting": container.status == "restarting",
            "OOMKilled": False,
            "Dead": False,
            "Pid": container.pid,
            "ExitCode": container.exit_code,
            "Error": "",
            "StartedAt": _time(container.started_at),
        },
        "Image": f"sha256:{'0' * 64}",
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "HostConfig": {
            "Binds": [f"{source}:{destination}" for source, destination in container.mounts],
            "NetworkMode": "host",
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "Privileged": False,
        },
        "Mounts": [
            {
                "Type": "bind",
                "Source": source,
                "Destination": destination,
                "Mode": "",
                "RW": True,
                "Propagation": "rprivate",
            }
            for source, destination in container.mounts
        ],
        "Config": {
            "Hostname": container.container_id[:12],
            "User": "",
            "Env": None,
            "Cmd": list(container.command),
            "Image": _image(container),
        },
    }


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _log_prefix() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y/%m/%d %H:%M:%S} [{{}}] {os.getpid()}#{os.getpid()}: "


def _in_container(nginx: Nginx, command: Sequence[str]) -> Reply | None:  # noqa: PLR0911 - one line a command
    """What a program in nginx's container answers; None for one that is not imitated."""
    match command:
        case ["sh", "-c", *_]:
            return Reply(IN_ITS_PLACE)
        case ["nginx", "-t"]:
            return _nginx_test(nginx)
        case ["nginx", "-T"]:
            shown = f"# configuration file {MAIN_FILE}:\nuser www-data;\n"
            return dataclasses.replace(_nginx_test(nginx), stdout=shown)
        case ["nginx", "-s", "reload"]:
            return _nginx_does(nginx.reload, "signal process started")
        case ["nginx", "-t", "-q", "-c", file]:
            return _nginx_does(lambda: nginx.test_aside(file))
        case ["nginx", "-c", file]:
            return _nginx_does(lambda: nginx.start_aside(file))
        case ["nginx", "-c", file, "-s", "stop"]:
            return _nginx_does(lambda: nginx.stop_aside(file))
        case ["cat", path]:
            return _cat(nginx, path)
    return None


def _nginx_test(nginx: Nginx) -> Reply:
    try:
        nginx.test()
    except EmergencyError as error:
        return Reply(
            1, stderr=f"{_log_prefix().format('emerg')}{error}\nnginx: configuration file {MAIN_FILE} test failed\n"
        )
    return Reply(
        stderr=f"nginx: the configuration file {MAIN_FILE} syntax is ok\nnginx: configuration file {MAIN_FILE} test is successful\n"
    )


def _nginx_does(act: Callable[[], None], notice: str = "") -> Reply:
    try:
        act()
    except EmergencyError as error:
        return Reply(1, stderr=f"{_log_prefix().format('emerg')}{error}\n")
    return Reply(stderr=f"{_log_prefix().format('notice')}{notice}\n" if notice else "")


def _cat(nginx: Nginx, path: str) -> Reply:
    try:
        return Reply(stdout=nginx.path(path).read_text(errors="replace"))
    except OSError as error:
        return Reply(1, stderr=f"cat: {path}: {error.strerror}\n")
