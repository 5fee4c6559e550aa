"""`docker` of a practice server: hands its arguments to the server in the folder given first, and prints the answer.

Runs as a script of its own, with `-I -S` and few imports, because it is called often.
"""

import os
import socket
import sys

IN_ITS_PLACE = 1000  # instead of an exit status, for `docker exec -i NAME sh -c SCRIPT …`

if "SUDO_USER" not in os.environ:
    sys.exit("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock")
os.chdir(sys.argv[1])  # the socket's absolute path may be longer than a socket address takes
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect("docker.sock")
except OSError:
    sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
connection.sendall("".join(argument + "\0" for argument in sys.argv[2:]).encode(errors="surrogateescape"))
connection.shutdown(socket.SHUT_WR)
reply = b""
while received := connection.recv(65536):
    reply += received
head, _, rest = reply.partition(b"\n")
status, length = map(int, head.split())
if status == IN_ITS_PLACE:  # the container's programs are those in `inside`, its files are this machine's
    root, name, shell = sys.argv[1], sys.argv[4], sys.argv[5:]
    inside = {
        "PATH": f"{root}/bin/inside:{os.environ['PATH']}",
        "SUDO_USER": os.environ["SUDO_USER"],
        "CONTAINER": name,
    }
    os.execve("/bin/sh", shell, inside)  # noqa: S606 - it is one
for stream, text in ((1, rest[:length]), (2, rest[length:])):
    written = 0
    while written < len(text):
        written += os.write(stream, text[written:])
sys.exit(status)
