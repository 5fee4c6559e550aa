#!/bin/bash
# The inside of one real server: PID 1 of its own mount, UTS, IPC and PID namespaces (host.py starts it).
#
#   host.sh FOLDER      FOLDER holds authorized_key, password and image.tar; host.sh leaves hostkey.pub there
#
# It says "ready" on its standard output. It ends when its standard input closes, which the death of the
# test process does, or after LIFETIME_S seconds; and with PID 1 the kernel ends everything in here.
# LAB_* variables choose what the server is like; host.py's HostOptions says what each one means.
set -euo pipefail
exec 3<&0 </dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
unset DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG
folder=$1
conf=/etc/aos/nginx.conf.d
own=/run/lab
disk=$own # below it lies what the server writes

private_tree() {
  mount -t tmpfs -o mode=0755 tmpfs /run
  mkdir -p "$own/given" /run/sshd /run/lock
  mount --bind "$folder" "$own/given"
  for path in etc home var root; do
    mkdir -p "$disk/upper/$path" "$disk/scratch/$path"
    mount -t overlay "lab-$path" -o "lowerdir=/$path,upperdir=$disk/upper/$path,workdir=$disk/scratch/$path" "/$path"
  done
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  # A docker client of another version may come first in PATH.
  if [ -x /usr/local/bin/docker ]; then mount --bind /usr/bin/docker /usr/local/bin/docker; fi
  hostname "$LAB_NAME"
  printf '%s\n' '127.0.0.1 localhost' "$LAB_ADDRESS $LAB_NAME" >/etc/hosts
}

users() {
  if id admin >/dev/null 2>&1; then userdel -r admin >/dev/null 2>&1 || true; fi
  # A wrong password costs two seconds on a real server; tests have better uses for them.
  sed -i 's/pam_unix.so nullok/& nodelay/' /etc/pam.d/common-auth
  sed -i 's/^UMASK.*/UMASK 027/' /etc/login.defs
  echo 'session optional pam_umask.so' >>/etc/pam.d/common-session
  useradd -m -s /bin/bash admin
  printf 'admin:%s\n' "$(cat "$own/given/password")" | chpasswd
  install -d -o admin -g admin -m 0700 /home/admin/.ssh
  install -o admin -g admin -m 0600 "$own/given/authorized_key" /home/admin/.ssh/authorized_keys
  if [ "$LAB_EXPIRED_PASSWORD" = 1 ]; then chage -d 0 admin; fi
  if [ "$LAB_NOISE" = 1 ]; then
    printf '%s\n' 'echo "Welcome to the practice server, it is {fine} today"' 'echo "stty: standard input: not a tty" >&2' |
      cat - /home/admin/.bashrc >"$own/bashrc"
    cat "$own/bashrc" >/home/admin/.bashrc
  fi
}

sudo_rules() {
  tag=; if [ "$LAB_NOPASSWD" = 1 ]; then tag=NOPASSWD:; fi
  pty=; if [ "$LAB_USE_PTY" = 0 ]; then pty='!'; fi
  printf '%s\n' "Defaults ${pty}use_pty" 'Defaults lecture=always' 'Defaults logfile=/var/log/sudo.log' "admin ALL=(ALL:ALL) ${tag}ALL" >/etc/sudoers.d/admin
  chmod 0440 /etc/sudoers.d/admin
}

# The CIS benchmark's settings for the OpenSSH server, as far as they can change what a client sees.
start_sshd() {
  rm -f /etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  cp /etc/ssh/ssh_host_ed25519_key.pub "$own/given/hostkey.pub"
  echo 'Authorized users only. All activity may be monitored and reported.' >/etc/issue.net
  forwarding=no; if [ "$LAB_TCP_FORWARDING" = 1 ]; then forwarding=yes; fi
  cat >/etc/ssh/sshd_config <<CONF
ListenAddress $LAB_ADDRESS:22
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
KbdInteractiveAuthentication no
PermitRootLogin no
PermitEmptyPasswords no
PermitUserEnvironment no
HostbasedAuthentication no
IgnoreRhosts yes
X11Forwarding no
AllowTcpForwarding $forwarding
MaxAuthTries 4
MaxStartups 10:30:60
MaxSessions 10
LoginGraceTime 60
ClientAliveInterval 300
ClientAliveCountMax 3
UseDNS no
Banner /etc/issue.net
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr
MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512,hmac-sha2-256
Subsystem sftp /usr/lib/openssh/sftp-server
CONF
  run_sshd
}

run_sshd() {
  /usr/sbin/sshd -D -E "$own/sshd.log" </dev/null >/dev/null 2>&1 &
}

start_dockerd() {
  mkdir -p /var/lib/docker
  # overlay2 does not stack on the overlay that /var is in here.
  mountpoint -q /var/lib/docker || mount -t tmpfs tmpfs /var/lib/docker
  /usr/sbin/dockerd --iptables=false --ip6tables=false --ip-forward=false --bridge=none --log-level=warn \
    --cgroup-parent "/$LAB_CGROUP" </dev/null >"$own/dockerd.log" 2>&1 &
}

apstra_files() {
  mkdir -p "$conf"
  printf '%s\n' '[controller]' 'metadb = tbt:?hostname=localhost' 'role = controller' >/etc/aos/aos.conf
  openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj "/CN=$LAB_NAME" \
    -addext "subjectAltName=DNS:$LAB_NAME,IP:$LAB_ADDRESS" -keyout "$conf/nginx.key" -out "$conf/nginx.crt" 2>/dev/null
  chmod 0600 "$conf/nginx.key"
  chmod 0644 "$conf/nginx.crt"
  location=
  if [ "$LAB_API" = 1 ]; then
    location="location = /api/version { default_type application/json; return 200 '{\"major\":\"4\",\"version\":\"4.2.0\",\"build\":\"236\",\"minor\":\"2\"}'; }"
  fi
  cat >"$conf/nginx.conf" <<CONF
server {
    listen $LAB_ADDRESS:443 ssl;
    server_name _;
    ssl_certificate /etc/nginx/conf.d/nginx.crt;
    ssl_certificate_key /etc/nginx/conf.d/nginx.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    $location
    location / { default_type text/html; return 200 "<!doctype html><title>Apstra</title><h1>$LAB_NAME</h1>\n"; }
}
CONF
  chmod 0644 "$conf/nginx.conf" /etc/aos/aos.conf
}

run_containers() {
  mounts=(-v "$conf:/etc/nginx/conf.d")
  if [ "$LAB_MOUNT" = files ]; then
    mounts=()
    for file in nginx.conf nginx.crt nginx.key; do mounts+=(-v "$conf/$file:/etc/nginx/conf.d/$file"); done
  fi
  if [ "$LAB_ROLE" = worker ]; then
    docker run -d --name "$LAB_CONTAINER" --network none --restart always aos:lab /bin/sleep infinity >/dev/null
    return
  fi
  # A real controller runs more than nginx: whoever looks for the container has to choose.
  other=${LAB_CONTAINER/nginx/controller}
  docker rm -f "$LAB_CONTAINER" "$other" >/dev/null 2>&1 || true
  docker run -d --name "$other" --network none --restart always aos:lab /bin/sleep infinity >/dev/null &
  docker run -d --name "$LAB_CONTAINER" --network host --restart always --stop-signal SIGQUIT "${mounts[@]}" aos:lab >/dev/null
  wait_for_port 443
  wait $!
}

wait_for_port() {
  for _ in $(seq 1000); do
    if (: <"/dev/tcp/$LAB_ADDRESS/$1") 2>/dev/null; then return 0; fi
    sleep 0.01
  done
  echo "nothing listens on $LAB_ADDRESS:$1" >&2
  return 1
}

# host.py calls this between two tests: whatever a test left running ends, logs of logins are forgotten.
quiet() {
  end_all "dockerd containerd runc"
  for path in /var/lib/apstra-runbook "$conf" "$own/small"; do umount "$path" 2>/dev/null || true; done
  rm -rf /var/lib/apstra-runbook /var/lib/sudo/lectured /run/sudo/ts /run/faillock
  find /tmp -mindepth 1 -delete
}

# Every process but PID 1, what it waits for, sshd, and those whose names hold one of these words.
end_all() {
  keep=" $(cat "$own/keep") $$ "
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    case $keep in *" $pid "*) continue ;; esac
    [ "$process/ns/pid" -ef /proc/1/ns/pid ] || continue
    read -r _ name _ <"$process/stat" 2>/dev/null || continue
    for word in $1; do case $name in *"$word"*) continue 2 ;; esac; done
    kill -KILL "$pid" 2>/dev/null || true
  done
}

# The power goes and comes back. There is no systemd here: for the unit of an unconfirmed change, which it would start before
# docker, stands what that unit calls.
reboot() {
  read -r first reader sshd <"$own/keep"
  echo "$first $reader" >"$own/keep"
  kill -KILL "$sshd"
  end_all ''
  rm -f /var/run/docker.pid /run/docker.pid
  for guard in /var/lib/apstra-runbook/changes/*/guard.sh; do [ ! -e "$guard" ] || sh "$guard" settle || true; done
  run_sshd
  echo "$first $reader $!" >"$own/keep"
  start_dockerd
  wait_for_port 22
  wait_for_port 443
}

serve() {
  read -r -t "$LIFETIME_S" _ <&3 &
  reader=$!
  private_tree
  if [ "$LAB_ROLE" != bastion ]; then start_dockerd; fi
  users
  sudo_rules
  start_sshd
  echo "1 $reader $!" >"$own/keep"
  if [ "$LAB_ROLE" != bastion ]; then
    apstra_files
    for _ in $(seq 1000); do if docker version >/dev/null 2>&1; then break; fi; sleep 0.02; done
    docker import -c 'CMD ["/usr/sbin/nginx","-g","daemon off;"]' "$own/given/image.tar" aos:lab >/dev/null
    run_containers
    cp -a /etc/aos "$own/first"
  fi
  wait_for_port 22
  echo ready
  # Waiting, not reading, PID 1 also reaps the orphans of its host, as an init does.
  wait "$reader" || true
}

case ${2:-serve} in
  serve) serve ;;
  quiet) quiet ;;
  containers) run_containers ;;
  reboot) reboot ;;
esac
