#!/bin/bash
# image.sh TAR: packs nginx, openssl and a few basics of this machine, with the libraries they load, into
# a root file system for `docker import`. No registry, no Dockerfile, no network.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
programs="/usr/sbin/nginx /usr/bin/openssl /bin/sh /bin/cat /bin/ls /bin/sleep /bin/mkdir /bin/rm /bin/cp /bin/chmod /bin/stat"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# The merged /usr of today's distributions, so that /bin/sh and /usr/bin/sh are one file.
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/etc/nginx/conf.d "$root"/{dev,proc,sys,run,var/log/nginx,var/lib/nginx}
mkdir -m 1777 "$root/tmp"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done

for program in $programs; do
  install -D -m 0755 "$(readlink -f "$program")" "$root$program"
done
# shellcheck disable=SC2086
ldd $programs | grep -o '/[^ )]*\.so[^ )]*' | sort -u | while read -r library; do
  install -D -m 0755 "$(readlink -f "$library")" "$root$library"
done

install -m 0644 /etc/nginx/mime.types "$root/etc/nginx/mime.types"
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'www-data:x:33:33:www-data:/var/www:/bin/false' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'www-data:x:33:' >"$root/etc/group"
ln -s /dev/stdout "$root/var/log/nginx/access.log"
ln -s /dev/stderr "$root/var/log/nginx/error.log"
cat >"$root/etc/nginx/nginx.conf" <<'CONF'
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events { worker_connections 512; }
http {
    include /etc/nginx/mime.types;
    server_tokens off;
    access_log /var/log/nginx/access.log;
    include /etc/nginx/conf.d/*.conf;
}
CONF
tar -C "$root" -cf "$1" .
