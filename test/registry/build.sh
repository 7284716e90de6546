#!/bin/bash
# build.sh builds a registry for tests, from the module that go.mod pins, and prints its path. It keeps what is pushed in
# memory and listens on localhost: registry -port 5000.
#
# It is built once for each content of go.mod, go.sum and this file, and stays for the next run in
# ${XDG_CACHE_HOME:-~/.cache}/tapestry-test.
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tapestry-test
binary=$cache/registry-$(cat go.mod go.sum build.sh | sha256sum | cut -c1-16)
if [[ ! -x $binary ]]; then
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$new/" github.com/google/go-containerregistry/cmd/registry
    mv -T "$new/registry" "$binary"
fi
echo "$binary"
