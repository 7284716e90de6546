#!/bin/bash
# build.sh builds a current Docker (dockerd, containerd, runc and the docker command) from the modules that go.mod
# pins, and prints the directory that holds the binaries: host.sh takes it as DOCKER_BIN.
#
# A directory is built once for each content of go.mod, go.sum and this file, needs Go and gcc, and stays for the next
# run in ${XDG_CACHE_HOME:-~/.cache}/tapestry-test.
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tapestry-test
dir=$cache/docker-$(cat go.mod go.sum build.sh | sha256sum | cut -c1-16)
if [[ ! -d $dir ]]; then
    echo "building a current Docker in $dir" >&2
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    # What a release of Docker says of itself; moby's module, which it is made from, has a version of another kind.
    says="-X github.com/moby/moby/v2/dockerversion.Version=29.7.2 -X github.com/docker/cli/cli/version.Version=29.7.2"
    build() { go build -trimpath -ldflags "-s -w $says" -o "$new/" "$@"; }
    export CGO_ENABLED=0
    build -tags netgo,osusergo,static_build,nri_no_wasm,no_cri,exclude_graphdriver_btrfs \
        github.com/moby/moby/v2/cmd/{dockerd,docker-proxy} \
        github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2} \
        github.com/docker/cli/cmd/docker
    # runc enters namespaces in C. It is built without seccomp, whose headers few machines have.
    CGO_ENABLED=1 build -tags netgo,osusergo github.com/opencontainers/runc
    chmod 755 "$new"
    mv -T "$new" "$dir" 2>/dev/null || [[ -d $dir ]] # somebody else may have been faster
fi
echo "$dir"
