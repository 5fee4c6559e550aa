#!/bin/bash
# The inside of a real server whose PID 1 is systemd, which runs OpenSSH and docker as its services.
#
#   systemd.sh FOLDER DISK     FOLDER is host.sh's; what the server writes lies in DISK, so that it is there after a power cut
#
# It leaves FOLDER/ready when nginx and OpenSSH listen. LAB_* variables are those of host.sh.
set -euo pipefail
given=$1 kept=$2
# shellcheck source=tests/realserver/host.sh
source "$given/host.sh" "$given" sourced
disk=/mnt # where no mount of private_tree's hides it
run_sshd() { :; }

units() {
  rm -rf /etc/systemd/system/*.wants
  mkdir -p /etc/systemd/system/docker.service.d
  printf '%s\n' '[Service]' ExecStart= \
    "ExecStart=/usr/sbin/dockerd --iptables=false --ip6tables=false --ip-forward=false --bridge=none --cgroup-parent /$LAB_CGROUP" \
    >/etc/systemd/system/docker.service.d/lab.conf
  printf '%s\n' '[Unit]' 'Wants=docker.service lab-sshd.service lab-ready.service lab-life.service systemd-user-sessions.service' AllowIsolate=yes \
    >/etc/systemd/system/lab.target
  printf '%s\n' '[Service]' 'ExecStartPre=/bin/mkdir -p /run/sshd' 'ExecStart=/usr/sbin/sshd -D' >/etc/systemd/system/lab-sshd.service
  printf '%s\n' '[Unit]' 'After=docker.service lab-sshd.service' '[Service]' Type=oneshot "EnvironmentFile=$own/environment" \
    "ExecStart=/bin/bash $own/given/systemd.sh $own/given ready" >/etc/systemd/system/lab-ready.service
  printf '%s\n' '[Unit]' SuccessAction=exit-force '[Service]' "ExecStart=/bin/sleep $LIFETIME_S" >/etc/systemd/system/lab-life.service
  ln -sf lab.target /etc/systemd/system/default.target
}

ready() {
  if ! docker image inspect aos:lab >/dev/null 2>&1; then
    docker import -c 'CMD ["/usr/sbin/nginx","-g","daemon off;"]' "$own/given/image.tar" aos:lab >/dev/null
    run_containers
  fi
  wait_for_port 22
  wait_for_port 443
  touch "$own/given/ready"
}

if [ "$kept" = ready ]; then
  ready
  exit
fi
mount --bind "$kept" "$disk"
private_tree
mkdir -p /run/sshd
for each in docker containerd; do
  mkdir -p "$disk/$each" "/var/lib/$each"
  mount --bind "$disk/$each" "/var/lib/$each"
done
if [ ! -e "$disk/installed" ]; then
  users
  sudo_rules
  start_sshd
  apstra_files
  units
  touch "$disk/installed"
fi
env | grep '^LAB_' >"$own/environment"
for top in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
  if [ -e "$top/cgroup.procs" ]; then mkdir -p "$top/$LAB_CGROUP" && echo $$ >"$top/$LAB_CGROUP/cgroup.procs"; fi
done
exec 3<&-
exec env -i container=lab PATH="$PATH" LC_ALL=C /lib/systemd/systemd --system --show-status=no --log-target=journal
