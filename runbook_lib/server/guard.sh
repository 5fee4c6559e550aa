#!/bin/sh
# The way back of one change: it lies in the change's folder on the server and needs nothing but what lies there.
#
#   sh guard.sh arm SECONDS      prove the backup, start the timer that rolls back when no confirm comes in time
#   sh guard.sh swap             make the staged pair the live pair
#   sh guard.sh look LEAF SECS   wait until nginx runs and serves the certificate with that SHA-256 fingerprint
#   sh guard.sh confirm          keep the new pair; disarms the timer
#   sh guard.sh roll-back WHY    put the old pair back, unless it is confirmed
#   sh guard.sh stand-in WHY     the same for a timer that is gone; what is not its own it leaves alone, as the timer would
#   sh guard.sh restore          put the old pair back, confirmed or not (restore.sh calls this; by hand, with sudo)
#   sh guard.sh enlist           under systemd: settle an unconfirmed change at boot, before docker starts
#   sh guard.sh discharge        take that back; a confirm and a rollback do it by themselves
#   sh guard.sh settle           what that unit calls: the old pair comes back, and docker starts nginx with it
#
# Ends 0 when done, 3 when the other side had decided first (it says who), 6 when the old pair is back but does not serve,
# 7 when the old pair could not be put back, 1 otherwise.
# shellcheck shell=dash disable=SC2015,SC2154  # guard.conf sets the variables; `a && b || give_up` is meant as it reads
set -u
umask 077
silent_for=5 # seconds without any answer from nginx after which an unconfirmed change is not waited for
export LC_ALL=C
here=$(cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
# guard.conf sets: PATH conf_dir container activation connect in_place before_leaf before_served before_sums after_sums
# shellcheck source=/dev/null
. "$here/guard.conf"

clock() { # whole seconds since boot: no clock that is set can move them
  read -r uptime rest </proc/uptime
  echo "${uptime%%.*}"
}

say() {
  echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >>"$here/guard.log"
  echo "$*"
}

give_up() {
  say "$2"
  exit "$1"
}

end_runs() { # a run that hangs with the lock in its hand: its root shell is ended, what that started ends by its time limit
  # somebody may be putting the old pair back
  [ "$(cat "$here/decided" 2>/dev/null)" != rolled-back ] || [ -e "$here/settled" ] || return 0
  for held in /proc/[0-9]*/fd/9; do
    [ "$held" -ef "$conf_dir" ] || continue
    shell=${held#/proc/} shell=${shell%%/*}
    tr '\0' '\n' <"/proc/$shell/environ" 2>/dev/null | grep -qx "RUNBOOK_SHELL=$shell" || continue
    say "the lock of $conf_dir is held: ending the shell of the run that holds it, then waiting for the lock"
    kill -KILL "$shell"
  done
}

take() { # the lock, whoever holds it: a run is ended, and what a run started has ended by its time limit
  flock -w 5 9 && return
  end_runs
  flock -w 120 9 || say "something that is no run holds the lock of $conf_dir: going on without it"
}

lock() { # lock SECONDS [first]: the lock of conf_dir, at once where the run's own shell hands it down as descriptor 9
  [ /proc/self/fd/9 -ef "$conf_dir" ] || exec 9<"$conf_dir"
  if [ -n "${2:-}" ]; then # by hand: before whatever a run is at
    take
    return
  fi
  flock -w "$1" 9 || give_up 1 "another run holds the lock of $conf_dir"
}

decide() { # decide WORD: one atomic create decides between confirm and rollback
  rm -f -- "$here/.decide.$$"
  echo "$1" >"$here/.decide.$$" && sync -- "$here/.decide.$$" && ln -- "$here/.decide.$$" "$here/decided" 2>/dev/null
  decided=$?
  rm -f -- "$here/.decide.$$"
  sync -- "$here"
  return "$decided"
}

decide_back() { # with no room to write it down it is done all the same: the lock is ours
  decide rolled-back || [ "$(cat "$here/decided" 2>/dev/null)" != confirmed ] ||
    give_up 3 "decided before: $(cat "$here/decided")"
}

holds() { # holds FOLDER SUMS: the pair in that folder has these SHA-256 sums
  (cd -- "$1" && printf '%s' "$2" | sha256sum --check --status --strict -)
}

clean() { # nothing of ours stays beside the live pair
  rm -f -- "$conf_dir/.nginx.key.staged" "$conf_dir/.nginx.crt.staged"
}

stage() { # stage FOLDER NAME: a copy beside the live file, with that file's owner, mode, ACL and xattrs
  like=$conf_dir/$2
  [ -f "$like" ] || like=$here/backup/$2
  rm -f -- "$conf_dir/.$2.staged"
  cp --attributes-only --preserve=all -- "$like" "$conf_dir/.$2.staged" &&
    cat -- "$1/$2" >"$conf_dir/.$2.staged" && sync -- "$conf_dir/.$2.staged"
}

put() { # put FOLDER SUMS: FOLDER's pair becomes the live pair; a file that is itself a mount keeps its inode
  holds "$1" "$2" || return 1
  for name in nginx.key nginx.crt; do
    case " $in_place " in *" $name "*) ;; *) stage "$1" "$name" || return 1 ;; esac
  done
  for name in nginx.key nginx.crt; do
    case " $in_place " in
      *" $name "*) cat -- "$1/$name" >"$conf_dir/$name" && sync -- "$conf_dir/$name" || return 1 ;;
      *) mv -fT -- "$conf_dir/.$name.staged" "$conf_dir/$name" || return 1 ;;
    esac
  done
  sync -- "$conf_dir"
  holds "$conf_dir" "$2"
}

served() { # the SHA-256 fingerprint of the leaf that nginx serves, lower-case hex without colons
  timeout 5 openssl s_client -connect "$connect" </dev/null 2>/dev/null |
    openssl x509 -noout -fingerprint -sha256 2>/dev/null | sed 's/.*=//; s/://g; y/ABCDEF/abcdef/'
}

look() { # look LEAF SECONDS: after a reload the old workers may still answer, so that once is not enough
  until_=$(($(clock) + $2)) wanted=1 seen=0 wrong=
  [ "$activation" = restart ] || wanted=3
  while :; do
    leaf=$(served)
    state=$(timeout 10 docker inspect --format '{{.State.Status}} {{.RestartCount}}' "$container" 2>&1)
    if [ "$leaf" = "$1" ]; then seen=$((seen + 1)) wrong=; else seen=0; fi
    [ -z "$leaf" ] || [ "$leaf" = "$1" ] || wrong=${wrong:-$(clock)}
    case $state in
      "running "*)
        [ "$seen" -lt "$wanted" ] || return 0
        [ -z "$wrong" ] || [ $(($(clock) - wrong)) -lt 10 ] || break # it answers, and goes on answering with another one
        ;;
      "restarting "*) [ "${state##* }" -ge 2 ] && break ;;
    esac
    [ "$(clock)" -lt "$until_" ] || break
    sleep 0.1
  done
  echo "nginx does not serve the expected certificate: container $state, served ${leaf:-nothing}"
  return 1
}

old_pair() { # the old pair in place
  clean
  holds "$conf_dir" "$before_sums" || put "$here/backup" "$before_sums" ||
    { clean; give_up 7 "the old pair could not be put back"; }
}

settled() { # nothing is left to do: it is confirmed, or what was decided otherwise is done, too
  [ "$(cat "$here/decided" 2>/dev/null)" = confirmed ] || [ -e "$here/settled" ]
}

done_with_it() { # the old pair is back and serves
  # a full disk takes an empty file and not the word in the other: what was not decided is not done with
  [ -e "$here/decided" ] && true >"$here/settled" && sync -- "$here/settled" "$here"
  discharge
  return 0 # with no room for the mark the old pair serves all the same
}

confirmed() { # every change that was confirmed, as an id a line
  for each in "$here"/../*/decided; do
    [ "$(cat "$each" 2>/dev/null)" != confirmed ] || basename "${each%/decided}"
  done
}

ours() { # nobody has put a third pair there since, and no later change was confirmed: what lies there is still this change's to undo
  for other in $(confirmed); do
    grep -qxF -- "$other" "$here/confirmed-before" || return 1
  done
  [ -z "$in_place" ] || return 0 # a file that was cut short while it was written has no sum that could be known
  for name in nginx.key nginx.crt; do
    [ -f "$conf_dir/$name" ] || continue
    sum=$(sha256sum <"$conf_dir/$name") || continue
    case $before_sums$after_sums in *"${sum%% *}"*) ;; *) return 1 ;; esac
  done
}

leave_alone() { # decided all the same, so that no later run takes the change for one that waits for its confirm
  decide rolled-back
  say "left alone: another pair is live now, which this change is not to undo"
  done_with_it
}

bring_back() { # the old pair in place and served; restarts nginx only where that is needed
  old_pair
  patience=1
  if [ "$activation" = reload ]; then patience=10 && timeout 30 docker exec "$container" nginx -s reload 2>&1; fi
  if ! look "$before_leaf" "$patience" >/dev/null; then
    timeout 60 docker restart "$container" 2>&1
    patience=60
    [ "$before_served" = yes ] || patience=5
    if ! look "$before_leaf" "$patience"; then
      [ "$before_served" = yes ] || done_with_it # it did not when it was found: trying again would not help
      give_up 6 "the old pair is back in place but nginx does not serve it"
    fi
  fi
  done_with_it
}

unit=apstra-runbook-${here##*/}.service

by_systemd() {
  systemctl --quiet is-active docker.service 2>/dev/null
}

enlist() {
  by_systemd || give_up 1 "docker is no service of systemd here"
  cat >"/etc/systemd/system/$unit" <<UNIT && systemctl --quiet enable "$unit" && sync -- /etc/systemd/system
[Unit]
Description=Put the certificate pair back that was not confirmed before the restart (change ${here##*/})
RequiresMountsFor=$here $conf_dir
Before=docker.service

[Service]
Type=oneshot
ExecStart=/bin/sh $here/guard.sh settle

[Install]
WantedBy=docker.service
UNIT
}

discharge() {
  [ -e "/etc/systemd/system/$unit" ] || return 0
  systemctl --quiet disable "$unit" 2>/dev/null
  rm -f -- "/etc/systemd/system/$unit"
  systemctl daemon-reload 2>/dev/null
}

settle() { # nobody else is at work so early, and docker does not run yet
  if [ -e "$here/armed" ] && ! settled; then
    decide_back
    ours || { leave_alone; return 0; }
    old_pair
    say "rolled back at boot: the server was restarted before the confirm; the old pair is in place"
    done_with_it
  else
    discharge
  fi
}

arm() { # the timer itself writes that it is armed, so that there is no armed guard without one
  [ ! -e "$here/armed" ] || give_up 1 "the guard is armed already"
  (cd -- "$here/backup" && sha256sum --check --status --strict SHA256SUMS) || give_up 1 "the backup does not prove whole"
  holds "$here/backup" "$before_sums" || give_up 1 "the backup holds another pair"
  confirmed >"$here/confirmed-before" && sync -- "$here/confirmed-before" || give_up 1 "cannot arm"
  if by_systemd; then # where logind ends what a session leaves, setsid alone would not help
    systemd-run --quiet --collect sh "$here/guard.sh" timer "$1" 9<&- || give_up 1 "cannot arm"
  else
    setsid sh "$here/guard.sh" timer "$1" </dev/null >/dev/null 2>&1 9<&- &
  fi
  until_=$(($(clock) + 10))
  while [ ! -e "$here/armed" ]; do
    [ "$(clock)" -lt "$until_" ] || give_up 1 "cannot arm"
    sleep 0.005
  done
  say "armed: the old pair comes back in $1 s unless confirmed"
}

silent() { # nobody is at work, the new pair is in place, and nginx answers nobody
  (exec 9<"$conf_dir" && flock -n 9 && holds "$conf_dir" "$after_sums") && [ -z "$(served)" ]
}

timer() { # timer SECONDS: short naps, so that a confirm ends it soon; a newer arming makes it void
  deadline=$(($(clock) + $1)) why="no confirm within $1 s" silence=0 nap=3 tries=0
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$$ $deadline $(cut -d ' ' -f 22 /proc/$$/stat) $boot" >"$here/.armed" && sync -- "$here/.armed" &&
    mv -fT -- "$here/.armed" "$here/armed" && sync -- "$here" || exit 1
  while [ ! -e "$here/decided" ] && [ "$(clock)" -lt "$deadline" ]; do
    sleep 1
    if [ ! -e "$here/decided" ] && silent; then silence=$((silence + 1)); else silence=0; fi
    [ "$silent_for" -gt "$silence" ] || { why="nginx has answered nobody for $silent_for s"; break; }
  done
  while ! settled; do # again where the pair could not be put back or nginx not be started: a full disk is not for ever
    exec 9<"$conf_dir"
    take
    read -r mine _ <"$here/armed" && [ "$mine" = "$$" ] || exit 0
    settled && break
    if ours; then (roll_back "$why"); else leave_alone; fi
    [ "$?" != 6 ] || { tries=$((tries + 1)) && [ "$tries" -lt 20 ]; } || break
    settled && break # with no room to write it down it is not for ever: another try finds the old pair there
    exec 9<&-
    sleep "$nap"
    nap=$((nap < 30 ? nap * 2 : 30))
  done
}

swap() {
  [ -e "$here/armed" ] && [ ! -e "$here/decided" ] || give_up 1 "the guard is not armed"
  holds "$conf_dir" "$before_sums" || give_up 1 "the live pair changed since the backup was taken"
  put "$here" "$after_sums" || { clean; give_up 1 "the staged pair could not be put in place"; }
  say "swapped: the new pair is in place"
}

roll_back() {
  decide_back
  bring_back
  say "rolled back: $1; the old pair is serving"
}

stand_in() {
  if ours; then roll_back "$1"; else leave_alone; fi
}

confirm() {
  [ -e "$here/decided" ] || holds "$conf_dir" "$after_sums" || give_up 1 "the live pair is not the new one"
  decide confirmed || [ "$(cat "$here/decided")" = confirmed ] || give_up 3 "decided before: $(cat "$here/decided")"
  discharge
  say "confirmed: the new pair stays"
}

restore() {
  decide rolled-back || say "restoring by hand a pair that was $(cat "$here/decided")"
  bring_back
  say "restored: the old pair is serving"
}

trap '' HUP PIPE
case ${1:-} in
  arm) lock 5 && arm "$2" ;;
  swap) lock 5 && swap ;;
  look) look "$2" "$3" ;;
  confirm) lock 60 && confirm ;;
  roll-back) lock 60 && roll_back "$2" ;;
  stand-in) lock 60 && stand_in "$2" ;;
  restore) lock 300 first && restore ;;
  enlist) enlist ;;
  discharge) discharge ;;
  settle) lock 60 && settle ;;
  timer) timer "$2" ;;
  *) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 1 ;;
esac
