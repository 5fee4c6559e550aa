#!/bin/sh
# The same replacement as one script, run as root through one connection: the floor that the conductor is measured against.
# It has no record, no checks of what it finds, and no way back. Arguments: NAME ADDRESS; $rehearsal is the text of rehearse.sh.
#
# Steps as the vendor publishes them, with a SAN, and with the wait that `docker restart` leaves to the eye.
set -eu
umask 077
# openssl verifies nothing here and need not read the trust store first; the conductor's shell does the same
export SSL_CERT_FILE=/dev/null
name=$1 address=$2
: "${rehearsal:?}"
conf=/etc/aos/nginx.conf.d
work=/var/lib/apstra-runbook/script
mkdir -p "$work"
cd "$work"

tar --xattrs -C /etc -cpf aos.tar aos
cp -p "$conf/nginx.crt" "$conf/nginx.key" .
tar -C /etc -df aos.tar
for each in nginx.crt nginx.key; do tar -xOf aos.tar "aos/nginx.conf.d/$each" | cmp - "$each"; done
sha256sum aos.tar nginx.crt nginx.key >SHA256SUMS

openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key 2>/dev/null
san="subjectAltName=DNS:$name,IP:$address"
openssl req -new -sha256 -key new.key -subj "/CN=$name" -addext "$san" -out new.csr
echo "$san" | openssl x509 -req -sha256 -days 365 -in new.csr -signkey new.key -extfile /dev/stdin -out new.crt 2>/dev/null

key=$(openssl pkey -in new.key -pubout | sha256sum)
[ "$key" = "$(openssl req -in new.csr -noout -pubkey | sha256sum)" ]
[ "$key" = "$(openssl x509 -in new.crt -noout -pubkey | sha256sum)" ]

mkdir staged
cp new.key staged/nginx.key
cp new.crt staged/nginx.crt
printf '%s\n' "$rehearsal" >staged/rehearse.sh
sh staged/rehearse.sh aos_nginx_1 </dev/null 2>/dev/null | grep -q 'BEGIN CERTIFICATE'

# written aside with the owner and the mode of what is live, then renamed over it
for kind in key crt; do
  cp --attributes-only --preserve=all "$conf/nginx.$kind" "$conf/.nginx.$kind.new"
  cat "new.$kind" >"$conf/.nginx.$kind.new"
done
sync "$conf/.nginx.key.new" "$conf/.nginx.crt.new"
mv -fT "$conf/.nginx.key.new" "$conf/nginx.key"
mv -fT "$conf/.nginx.crt.new" "$conf/nginx.crt"

docker exec aos_nginx_1 nginx -t 2>/dev/null
docker restart aos_nginx_1 >/dev/null
[ "$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' aos_nginx_1)" = 'running 0' ]

new=$(openssl x509 -in new.crt -noout -fingerprint -sha256)
tries=0
until [ "$(openssl s_client -connect "$address:443" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>/dev/null)" = "$new" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 300 ]
  sleep 0.05
done
