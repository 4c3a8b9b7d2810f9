#!/usr/bin/env bash
# Makes certificates for tests: an authority, a server certificate for the given names, the gateway's for its calls to the
# stages, and a client certificate.
# Usage: make.sh DIRECTORY [NAME ...]; NAME is a DNS name or an IP address, by default localhost and 127.0.0.1.
set -euo pipefail
directory=${1:?usage: make.sh DIRECTORY [NAME ...]}
shift
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(localhost 127.0.0.1)
mkdir -p "$directory"
cd "$directory"
umask 077

alternatives=()
for name in "${names[@]}"; do
  if [[ $name =~ ^[0-9.]+$|: ]]; then alternatives+=("IP:$name"); else alternatives+=("DNS:$name"); fi
done
joined=$(IFS=,; echo "${alternatives[*]}")

# An existing authority is kept, so that a second run makes rotated certificates that old clients trust.
if [ ! -f ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj '/CN=Winnow test authority' -keyout ca.key -out ca.pem 2>/dev/null
fi
sign() { # name, extensions
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=winnow $1" \
    -keyout "$1.key.new" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out "$1.pem.new" \
    -extfile <(printf '%s\n' "$2") 2>/dev/null
  rm "$1.csr"
  mv "$1.key.new" "$1.key"
  mv "$1.pem.new" "$1.pem"
}
sign server "subjectAltName=$joined"
sign gateway "extendedKeyUsage=clientAuth
subjectAltName=DNS:winnow-gateway"
sign client "extendedKeyUsage=clientAuth"
