#!/bin/sh
# Makes certificates for tests in the folder given: spec/support/certs.sh FOLDER
#
#   ca.pem, ca/           the CA, as a file and as a hashed folder; other-ca.pem: one that signed stranger.pem only
#   localhost.pem .key    for localhost, 127.0.0.1 and ::1
#   a.pem b.pem           for a.example and for *.b.example
#   chain.pem             for localhost, from an intermediate CA, whose certificate follows in the file
#   expired.pem           for localhost, yesterday
#   client.pem            CN=joe, for a client; stranger.pem: the same from the other CA
#   encrypted.key         localhost.key with a passphrase; ed25519.key: one of another algorithm
set -eu
umask 077
mkdir -p "$1"
cd "$1"

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

# ca NAME SUBJECT
ca() {
    key "$1"
    openssl req -new -x509 -sha256 -days 3650 -key "$1.key" -subj "$2" -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# sign NAME SUBJECT CA DAYS EXTENSIONS...
sign() {
    name=$1 subject=$2 issuer=$3 days=$4
    shift 4
    printf '%s\n' "$@" >"$name.ext"
    [ -f "$name.key" ] || key "$name"
    openssl req -new -sha256 -key "$name.key" -subj "$subject" -out "$name.csr"
    openssl x509 -req -sha256 -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial \
        -days "$days" -extfile "$name.ext" -out "$name.pem" 2>"$name.log" || { cat "$name.log" >&2; exit 1; }
    rm -f "$name.csr" "$name.ext" "$name.log"
}

here=subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1

ca ca "/CN=Test CA"
ca other-ca "/CN=Other CA"
sign localhost "/CN=localhost" ca 3650 "$here" extendedKeyUsage=serverAuth
sign a "/CN=a.example" ca 3650 subjectAltName=DNS:a.example
sign b "/CN=b.example" ca 3650 "subjectAltName=DNS:*.b.example"
sign expired "/CN=localhost" ca -1 "$here"
sign client "/CN=joe" ca 3650 extendedKeyUsage=clientAuth
sign stranger "/CN=joe" other-ca 3650 extendedKeyUsage=clientAuth
sign intermediate "/CN=Intermediate CA" ca 3650 basicConstraints=critical,CA:TRUE,pathlen:0
sign chain "/CN=localhost" intermediate 3650 "$here"
cat intermediate.pem >>chain.pem
openssl ec -aes128 -passout pass:secret -in localhost.key -out encrypted.key 2>/dev/null
openssl genpkey -algorithm ed25519 -out ed25519.key
mkdir -p ca
ln -sf ../ca.pem "ca/$(openssl x509 -noout -hash -in ca.pem).0"
