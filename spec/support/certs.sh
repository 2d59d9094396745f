#!/bin/sh
# Makes certificates for tests in the folder given: spec/support/certs.sh FOLDER
#
#   ca.pem, ca/           the CA, as a file and as a hashed folder; other-ca.pem: one that signed stranger.pem only
#   localhost.pem .key    for localhost, 127.0.0.1 and ::1
#   a.pem b.pem           for a.example and for *.b.example
#   chain.pem             for localhost, from an intermediate CA, whose certificate follows in the file
#   expired.pem           for localhost, in the year 2000
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

# request NAME SUBJECT EXTENSIONS...
request() {
    name=$1 subject=$2
    shift 2
    printf '%s\n' "$@" >"$name.ext"
    [ -f "$name.key" ] || key "$name"
    openssl req -new -sha256 -key "$name.key" -subj "$subject" -out "$name.csr"
}

# made NAME COMMAND...
made() {
    name=$1
    shift
    "$@" >"$name.log" 2>&1 || { cat "$name.log" >&2; exit 1; }
    rm -f "$name.csr" "$name.ext" "$name.log"
}

# sign NAME SUBJECT CA EXTENSIONS...
sign() {
    name=$1 subject=$2 issuer=$3
    shift 3
    request "$name" "$subject" "$@"
    made "$name" openssl x509 -req -sha256 -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -CAcreateserial \
        -days 3650 -extfile "$name.ext" -out "$name.pem"
}

# The same for days that are over, which openssl x509 refuses from 3.4 on.
sign_expired() {
    name=$1 subject=$2 issuer=$3
    shift 3
    request "$name" "$subject" "$@"
    mkdir issued
    : >issued/index
    printf '%s\n' '[ca]' 'default_ca = past' '[past]' 'database = issued/index' 'new_certs_dir = issued' \
        'rand_serial = yes' 'policy = any' '[any]' 'commonName = supplied' >issued/config
    made "$name" openssl ca -batch -notext -config issued/config -md sha256 -in "$name.csr" -cert "$issuer.pem" \
        -keyfile "$issuer.key" -startdate 20000101000000Z -enddate 20000102000000Z -extfile "$name.ext" -out "$name.pem"
    rm -r issued
}

here=subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1

ca ca "/CN=Test CA"
ca other-ca "/CN=Other CA"
sign localhost "/CN=localhost" ca "$here" extendedKeyUsage=serverAuth
sign a "/CN=a.example" ca subjectAltName=DNS:a.example
sign b "/CN=b.example" ca "subjectAltName=DNS:*.b.example"
sign_expired expired "/CN=localhost" ca "$here"
sign client "/CN=joe" ca extendedKeyUsage=clientAuth
sign stranger "/CN=joe" other-ca extendedKeyUsage=clientAuth
sign intermediate "/CN=Intermediate CA" ca basicConstraints=critical,CA:TRUE,pathlen:0
sign chain "/CN=localhost" intermediate "$here"
cat intermediate.pem >>chain.pem
openssl ec -aes128 -passout pass:secret -in localhost.key -out encrypted.key 2>/dev/null
openssl genpkey -algorithm ed25519 -out ed25519.key
mkdir -p ca
ln -sf ../ca.pem "ca/$(openssl x509 -noout -hash -in ca.pem).0"
