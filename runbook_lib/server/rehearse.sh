#!/bin/sh
# The dress rehearsal of one change: the container's own nginx serves the staged pair aside, and hands are shaken with it.
#
#   sh rehearse.sh CONTAINER     lies in the change's folder, beside the staged pair
#
# Prints what the handshake showed on standard output, what nginx said on standard error. The live pair and the port are not
# touched: the pair goes into the container by a pipe, into a folder in /tmp there, and nginx listens on a Unix socket in that
# folder. It ends and the folder goes when the pipe closes, whoever is killed here.
set -u
umask 077
export LC_ALL=C
here=$(cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
place=/tmp/apstra-runbook-${here##*/}

# shellcheck disable=SC2016  # it is the container's shell that is to see these
inside='
umask 077
rm -rf "$0" && mkdir "$0" && cd "$0" || exit 1
trap "rm -rf \"$0\"" EXIT
take() { while IFS= read -r line && [ "$line" != "$1" ]; do printf "%s\n" "$line"; done; }
take "end of key" >nginx.key
take "end of certificate" >nginx.crt
user=$(nginx -T 2>/dev/null | while read -r word rest; do [ "$word" != user ] || { echo "user ${rest%%;*};"; break; }; done)
cat >nginx.conf <<CONF
$user
pid $0/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen unix:$0/socket ssl;
    ssl_certificate $0/nginx.crt;
    ssl_certificate_key $0/nginx.key;
  }
}
CONF
if nginx -c "$0/nginx.conf" >&2; then : >"served $1"; else : >"failed $1"; fi
while read -r line; do :; done
[ ! -e "served $1" ] || nginx -c "$0/nginx.conf" -s stop >&2
'

seen=/proc/$(docker inspect --format '{{.State.Pid}}' "$1")/root$place # the same folder, as it is seen from here

wait_until() { # wait_until SECONDS CONDITION…: each second ten looks, each a line on standard output
  tries=$(($1 * 10))
  shift
  until "$@" || [ "$tries" = 0 ]; do
    echo
    tries=$((tries - 1))
    sleep 0.1
  done
}

gone() { [ ! -e "$seen" ]; }
begun() { [ -e "$seen/served $$" ] || [ -e "$seen/failed $$" ]; } # this one, and none that was killed inside

wait_until 5 gone >/dev/null # one that was ended takes its things away first
{
  {
    cat -- "$here/nginx.key"
    echo "end of key"
    cat -- "$here/nginx.crt"
    echo "end of certificate"
    wait_until 10 begun # into the pipe: where nobody reads any more, this ends here
    [ ! -e "$seen/served $$" ] || timeout 10 openssl s_client -unix "$seen/socket" -showcerts </dev/null >&3 2>&1
    echo # last, so that this shell lives and holds the pipe open until the handshake is over
  } | timeout -k 5 30 docker exec -i "$1" sh -c "$inside" "$place" "$$" >&2
} 3>&1
true
