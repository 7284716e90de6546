#!/bin/bash
# plugin.sh makes tapestry's managed plugin for Docker out of plugin/config.json and a binary. It downloads nothing.
#
#   plugin.sh build DIR      write config.json and rootfs into the directory DIR, which is made if it is missing
#   plugin.sh create NAME    make the plugin NAME of this host's Docker; it is disabled at first
#   plugin.sh push REPO      make a plugin REPO, push it to its registry and remove it again
#
# Environment: TAPESTRY, a static binary (default bin/tapestry of this tree).
set -euo pipefail
umask 022

here=$(dirname "$(realpath "$0")")
binary=${TAPESTRY:-$here/../bin/tapestry}

die() { echo "plugin.sh: $*" >&2; exit 1; }

build() { # DIR
    [[ -x $binary ]] || die "there is no binary $binary: make build"
    mkdir -p "$1/rootfs"
    cp --remove-destination "$binary" "$1/rootfs/tapestry"
    cp --remove-destination "$here/plugin/config.json" "$1/config.json"
    # Docker itself adds the mount points that it needs: proc, sys, dev, etc/hosts, etc/resolv.conf.
}

create() { # NAME
    local name=$1 said dir
    [[ $EUID == 0 ]] || die "run this as root: the plugin's files have to be root's"
    command -v docker >/dev/null || die "there is no docker command here"
    said=$(docker version --format '{{.Server.Version}}' 2>&1) || die "Docker does not answer: $said"
    if docker plugin inspect "$name" >/dev/null 2>&1; then
        die "this Docker has a plugin $name already. Choose another name (make plugin PLUGIN=NAME:TAG), or remove that one:
docker plugin disable $name && docker plugin rm $name. While it has networks, see \"Upgrade\" in docs/plugin.md first"
    fi
    dir=$(mktemp -d)
    # shellcheck disable=SC2064 # this directory, whatever is called dir later
    trap "rm -rf '$dir'" EXIT
    build "$dir"
    said=$(docker plugin create "$name" "$dir" 2>&1) || case $said in
    *"already exists"*) die "this Docker has a plugin with exactly these files under another name, and takes them but once: docker plugin ls ($said)" ;;
    *) die "docker plugin create $name: $said" ;;
    esac
}

push() { # REPO
    create "$1"
    docker plugin push "$1" || { docker plugin rm "$1" >/dev/null; die "docker plugin push $1 failed"; }
    docker plugin rm "$1" >/dev/null
}

[[ $# == 2 && -n $2 ]] || { sed -n '2,/^set /{/^#/p}' "$0" >&2; exit 2; }
case $1 in
build) build "$2" ;;
create)
    create "$2"
    echo "The plugin $2 is there. Next: docker plugin enable $2"
    ;;
push) push "$2" ;;
*) sed -n '2,/^set /{/^#/p}' "$0" >&2; exit 2 ;;
esac
