#!/bin/bash
# deps.sh NAME… installs the Debian packages of those commands, and C headers (NAME.h), that are missing.
# It says nothing when all are there.
set -euo pipefail

declare -A package=([dockerd]=docker.io [docker]=docker.io [ip]=iproute2 [ping]=iputils-ping [busybox]=busybox-static
    [etcd]=etcd-server [stdlib.h]=libc6-dev)

missing() {
    for name in "$@"; do
        case $name in
        *.h) echo "#include <$name>" | gcc -E - >/dev/null 2>&1 ;;
        *) command -v "$name" >/dev/null ;;
        esac || echo "$name"
    done
}

# install PACKAGE… installs them: without what these only recommend, and without a question.
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@" >/dev/null
}

# quietly PACKAGE… installs them, and starts no service of theirs (policy-rc.d, see invoke-rc.d(8)).
quietly() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    install "$@"
)

PATH=$PATH:/usr/sbin:/sbin
wanted=$(missing "$@")
[[ -n $wanted ]] || exit 0
packages=$(for name in $wanted; do echo "${package[$name]:-$name}"; done | sort -u | paste -sd' ')
command -v apt-get >/dev/null || { echo "install these and try again: $packages" >&2; exit 1; }
[[ $EUID == 0 ]] || { echo "as root: apt-get install $packages" >&2; exit 1; }
echo "installing $packages"
apt-get update -qq
for server in etcd-server prometheus; do # tests have servers of their own: these start neither now nor at boot
    [[ " $packages " == *" $server "* ]] || continue
    quietly "$server"
    ! command -v systemctl >/dev/null || systemctl --quiet disable "${server%-server}.service"
done
# shellcheck disable=SC2086 # one word each
install $packages
# From Debian 13 on the docker command is a package of its own.
[[ -z $(missing docker) || ! $* =~ docker ]] || install docker-cli
wanted=$(missing "$@")
[[ -z $wanted ]] || { echo "still missing: $wanted" >&2; exit 1; }
