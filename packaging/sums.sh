#!/bin/sh
# sums.sh DIR VERSION completes a release in DIR: SHA256SUMS of what lies there, and install.sh, which checks them.
set -eu
packaging=$(cd "$(dirname "$0")" && pwd)
cd "$1"
sha256sum tapestry* >SHA256SUMS
awk -v version="$2" '
    /^version=/ { print "version=" version; next }
    /^sums=/    { printf "sums=\047"; while ((getline line <"SHA256SUMS") > 0) printf "%s%s", n++ ? "\n" : "", line; print "\047"; next }
                { print }' "$packaging/install.sh" >install.sh
chmod 755 install.sh
