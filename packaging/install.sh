#!/bin/sh
# install.sh puts a released tapestry on this machine: its two binaries, the systemd units, completions for bash, zsh and fish.
#
#   sh install.sh                      install, as root
#   sh install.sh --uninstall          remove what it installed; networks and their state stay
#
# It takes the files that lie beside it, and fetches those that do not (curl or wget) from the release's page. Each file
# must have the SHA-256 sum that stands below; if one does not, nothing is changed.
#
# Environment: PREFIX (/usr/local), DESTDIR (none), TAPESTRY_RELEASE, another place to fetch from.
set -eu

version= # packaging/sums.sh writes both
sums=
release=${TAPESTRY_RELEASE:-https://github.com/tapestry-net/tapestry/releases/download/$version}
into=${DESTDIR:-}${PREFIX:-/usr/local}
[ -n "$version" ] || { echo "install.sh: this is its template; make release writes dist/install.sh" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
unit=$into/lib/systemd/system/tapestry.service
resolver=$into/lib/systemd/system/tapestry-resolver.service
bash=$into/share/bash-completion/completions/tapestry
zsh=$into/share/zsh/site-functions/_tapestry
fish=$into/share/fish/vendor_completions.d/tapestry.fish

die() { echo "install.sh: $*" >&2; exit 1; }

# fetch FILE leaves FILE in $work, with the right sum.
fetch() {
    want=$(echo "$sums" | sed -n "s/  $1\$//p")
    if [ -f "$here/$1" ]; then
        cp "$here/$1" "$work/$1"
    else
        echo "fetching $release/$1"
        if command -v curl >/dev/null; then
            curl -fsSL -o "$work/$1" "$release/$1" || die "cannot fetch $release/$1; put $1 beside this script and try again"
        elif command -v wget >/dev/null; then
            wget -q -O "$work/$1" "$release/$1" || die "cannot fetch $release/$1; put $1 beside this script and try again"
        else
            die "there is neither curl nor wget: install one of them, or put $1 beside this script"
        fi
    fi
    sum=$(sha256sum "$work/$1") && sum=${sum%% *}
    [ "$sum" = "$want" ] || die "$1 has the SHA-256 sum $sum, want $want: it is damaged, or of another version than $version; nothing was changed"
}

case ${1:-} in
--uninstall)
    rm -f "$into/bin/tapestry" "$into/bin/tapestry-bench" "$unit" "$resolver" "$bash" "$zsh" "$fish"
    echo "removed; the state in /var/lib/tapestry and a daemon that runs stay"
    exit ;;
'') ;;
*) die "\"$1\" is no option: want none, or --uninstall" ;;
esac

[ "$(uname -s)" = Linux ] || die "tapestry runs on Linux, this is $(uname -s)"
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) die "there is no binary for $(uname -m), only for x86_64 and aarch64: build it with make" ;;
esac
command -v sha256sum >/dev/null || die "sha256sum is missing (package coreutils)"
mkdir -p "$into/bin" 2>/dev/null && [ -w "$into/bin" ] || die "cannot write to $into: run it as root, or set PREFIX"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch "tapestry-linux-$arch"
fetch "tapestry-bench-linux-$arch"
fetch tapestry.service
fetch tapestry-resolver.service

binary=$work/tapestry-linux-$arch
bench=$work/tapestry-bench-linux-$arch
chmod 755 "$binary" "$bench"
"$binary" version >/dev/null && "$bench" --version >/dev/null || die "the binaries do not run here; nothing was changed"
mkdir -p "$(dirname "$unit")" "$(dirname "$bash")" "$(dirname "$zsh")" "$(dirname "$fish")"
sed "s|/usr/local/bin|${PREFIX:-/usr/local}/bin|" "$work/tapestry.service" >"$unit"
sed "s|/usr/local/bin|${PREFIX:-/usr/local}/bin|" "$work/tapestry-resolver.service" >"$resolver"
"$binary" completion bash >"$bash"
"$binary" completion zsh >"$zsh"
"$binary" completion fish >"$fish"
chmod 644 "$unit" "$resolver" "$bash" "$zsh" "$fish"
cp "$bench" "$into/bin/tapestry-bench.new" # a running binary cannot be written, but replaced
cp "$binary" "$into/bin/tapestry.new"
mv "$into/bin/tapestry-bench.new" "$into/bin/tapestry-bench"
mv "$into/bin/tapestry.new" "$into/bin/tapestry"

echo "tapestry $version is in $into/bin. Next:"
echo "    systemctl daemon-reload && systemctl enable --now tapestry    # or simply: tapestry run"
echo "    docker network create -d tapestry --subnet 10.77.0.0/24 mynet"
