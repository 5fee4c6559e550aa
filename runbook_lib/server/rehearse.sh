#!/bin/sh
# The dress rehearsal of one change: the container's own nginx serves the staged pair aside, and hands are shaken with it.
#
#   sh rehearse.sh CONTAINER     lies in the change's folder, beside the staged pair
#
# Prints what the handshake showed on standard output, what nginx said on standard error. The live pair and the port are not
# touched: the pair goes into the container by a pipe, into a folder in /tmp there, and nginx listens on a Unix socket in that
# folder. Both end when the pipe closes, whoever is killed here; what was killed inside is taken away from here.
set -u
umask 077
export LC_ALL=C
here=$(cd -- "$(dirname -- "$0")" && pwd -P) || exit 1

# shellcheck disable=SC2016  # it is the container's shell that is to see these
inside='
umask 077
mkdir "$0" && cd "$0" || exit 1
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
if nginx -t -q -c "$0/nginx.conf" >&2; then nginx -c "$0/nginx.conf" -g "daemon off;" >&2 & else : >failed; fi
while read -r line; do :; done
[ -e failed ] || { kill "$!"; wait "$!"; }
'

look() { # where the container is now; its own name for our folders tells them from those of other containers
  said=$(docker inspect --format '{{.State.Pid}} {{.Id}}' "$1") || said='0 none'
  root=/proc/${said%% *}/root id=${said#* }
  places=/tmp/apstra-runbook-$(printf %.12s "$id")-
  place=$places${here##*/}
}

left() { # anything of a rehearsal in the container
  for each in "$root$places"*; do [ ! -e "$each" ] || return 0; done
  return 1
}

clean() { # only one rehearsal is held at a time: whatever is there was killed
  left || return 0
  # shellcheck disable=SC2013  # no such name holds a blank
  for each in $(grep -lF -- "$places" /proc/[0-9]*/cmdline 2>/dev/null); do
    each=${each#/proc/}
    kill "${each%/cmdline}" 2>/dev/null
  done
  wait_until 2 ended
  rm -rf -- "$root$places"*
}

wait_until() { # wait_until SECONDS CONDITION…: each second ten looks, each a line on standard output
  tries=$(($1 * 10))
  shift
  until "$@" || [ "$tries" = 0 ]; do
    echo
    tries=$((tries - 1))
    sleep 0.1
  done
}

gone() { ! left; }
ended() { ! grep -qF -- "nginx -c $places" /proc/[0-9]*/cmdline 2>/dev/null; }
begun() { [ -s "$root$place/nginx.pid" ] || [ -e "$root$place/failed" ]; }

look "$1"
wait_until 3 gone >/dev/null # one that is coming to its end takes its things away itself
clean >/dev/null
{
  {
    cat -- "$here/nginx.key"
    echo "end of key"
    cat -- "$here/nginx.crt"
    echo "end of certificate"
    wait_until 10 begun # into the pipe: where nobody reads any more, this ends here
    [ ! -s "$root$place/nginx.pid" ] || timeout 10 openssl s_client -unix "$root$place/socket" -showcerts </dev/null >&3 2>&1
    echo # last, so that this shell lives and holds the pipe open until the handshake is over
  } | timeout -k 5 30 docker exec -i "$1" sh -c "$inside" "$place" >&2
} 3>&1
[ -d "$root" ] || look "$1" # restarted meanwhile, with its /tmp as it was
clean >/dev/null
true
