#!/bin/bash
# host.sh makes and removes "hosts" on one machine, for the tests and the demo.
#
# A host is a network, mount, process and UTS namespace with its own name, /run, dockerd (and containerd) and tapestry daemon.
# Nothing of it is shared with the machine's own Docker, and when its first process ends everything in it ends.
# All of a host's files are in $HOSTS/NAME: pid (its first process), dockerd.log, tapestry.log, docker/, state/.
#
#   host.sh up NAME                       make a host
#   host.sh wire A B                      veth link between two hosts: A is 192.0.2.1, 2001:db8::1; B is …2; each the other's gateway
#   host.sh lan HUB A B…                  a bridge on HUB, with a veth link to each: A is 192.0.2.1, 2001:db8::1, B is …2 …; HUB …254, the gateway
#   host.sh in NAME CMD…                  run a command there
#   host.sh dockerd NAME start [FLAG…]    start dockerd, wait until it answers
#   host.sh tapestry NAME start [FLAG…]   start `tapestry run`, wait until it answers
#   host.sh dockerd|tapestry NAME SIGNAL  send TERM, INT, KILL …, wait until it is gone
#   host.sh plugin NAME start [FLAG…]     run tapestry as a managed plugin of the host's dockerd instead, wait until it answers
#   host.sh plugin NAME TERM              docker plugin disable -f
#   host.sh plugin NAME KILL              kill -9, wait until it is gone: dockerd starts it again by itself
#   host.sh plugin NAME id|pid            print its ID, its process
#   host.sh image NAME                    make the image tp/net: busybox, ping, iperf3
#   host.sh down NAME                     end the host and remove all of it
#
# Environment: HOSTS, a directory (made if missing); OWNER, a pid: when it ends, so do the hosts it made;
# IMAGE, the file that keeps tp/net's files (default $HOSTS/image.tar; made if missing, so that many hosts need it made once);
# TAPESTRY, the binary (default bin/tapestry of this tree), which is in the hosts' PATH; DOCKER_BIN, a directory with another
# dockerd, containerd, runc and docker than the machine's (test/docker/build.sh makes one).
set -euo pipefail
PATH=${DOCKER_BIN:+$DOCKER_BIN:}$PATH:/usr/sbin:/sbin

HOSTS=${HOSTS:-/tmp/tapestry-hosts}
self=$0
[[ $self == /* ]] || self=$PWD/$self
TAPESTRY=${TAPESTRY:-${self%/*}/../bin/tapestry}
[[ $TAPESTRY == /* ]] || TAPESTRY=$PWD/$TAPESTRY

patience=180 # seconds: only what hangs takes so long

die() { echo "host.sh: $*" >&2; exit 1; }

# rest waits before the next try, longer each time up to a quarter of a second: a try takes processor time from others.
rest() { # TRIES
    local pauses=(0.02 0.03 0.05 0.1 0.15 0.25)
    [[ ${never:-} ]] || exec {never}<> <(:)                          # nothing is ever written to it
    read -rt "${pauses[$1 < 5 ? $1 : 5]}" -u "$never" || true # sleeps without a process
}

# await SECONDS COMMAND… polls until the command succeeds.
await() {
    local end=$((SECONDS + $1)) tries=0; shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        rest $((tries++))
    done
}

enter() { # NAME COMMAND…
    local pid=$HOSTS/$1/pid
    [[ -s $pid ]] || die "no host $1"
    shift
    export PATH="${TAPESTRY%/*}:$PATH" DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/docker-cli
    exec nsenter --target "$(<"$pid")" --mount --net --pid --uts -- "$@"
}
within() { (enter "$@"); }

# first is what a host's first process does: it makes the mounts, says which pid it has outside, and then only reaps.
first() { # NAME
    local dir=$HOSTS/$1 pid over
    read -r pid _ </proc/self/stat # /proc is still the machine's
    mount -t proc proc /proc
    mkdir -p "$dir/cgroup"
    mount --rbind /sys/fs/cgroup "$dir/cgroup"
    mount -t sysfs sysfs /sys # shows this network namespace's links
    mount --rbind "$dir/cgroup" /sys/fs/cgroup
    umount -l "$dir/cgroup" && rmdir "$dir/cgroup"
    mount -t tmpfs -o mode=755 run /run
    [[ $(realpath /var/run) == /run ]] || mount --bind /run /var/run
    mkdir -p /run/lock /run/docker/plugins
    for over in etc opt; do # dockerd writes /etc/docker, containerd /opt/containerd
        mkdir -p "/run/host/$over"/{upper,work}
        mount -t overlay -o "lowerdir=/$over,upperdir=/run/host/$over/upper,workdir=/run/host/$over/work" "$over" "/$over"
    done
    ip link set lo up
    echo "$1" >/proc/sys/kernel/hostname
    echo "$pid" >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
    while :; do sleep 1000 & wait; done
}

up() { # NAME
    local dir=$HOSTS/$1
    mkdir -p "$HOSTS" && mkdir "$dir" || die "host $1 exists in $HOSTS"
    echo '{}' >"$dir/daemon.json"
    setsid unshare --mount --net --pid --uts --fork "$self" first "$1" </dev/null >"$dir/first.log" 2>&1 &
    await $patience test -s "$dir/pid" || { cat "$dir/first.log" >&2; die "host $1 did not come up"; }
    if [[ -n ${OWNER:-} ]]; then
        setsid bash -c 'tail --pid="$1" -f /dev/null; exec "$2" down "$3"' guard "$OWNER" "$self" "$1" </dev/null >/dev/null 2>&1 &
        echo $! >"$dir/guard"
    fi
}

wire() { # A B
    local a=$1 b=$2 n=0 host peer
    # Only the network namespace is entered: the peer's pid is the machine's.
    nsenter --target "$(<"$HOSTS/$a/pid")" --net ip link add underlay type veth peer name underlay netns "$(<"$HOSTS/$b/pid")"
    for host in "$a" "$b"; do
        n=$((n + 1)) peer=$((3 - n))
        within "$host" sh -ec "
            ip address add 192.0.2.$n/24 dev underlay
            ip address add 2001:db8::$n/64 dev underlay nodad
            ip link set underlay up
            ip route add default via 192.0.2.$peer
            ip -6 route add default via 2001:db8::$peer dev underlay"
    done
}

lan() { # HUB HOST…
    local hub=$1 n=0 host; shift
    within "$hub" sh -ec "
        ip link add lan type bridge
        ip address add 192.0.2.254/24 dev lan
        ip address add 2001:db8::254/64 dev lan nodad
        ip link set lan up"
    for host; do
        n=$((n + 1))
        nsenter --target "$(<"$HOSTS/$hub/pid")" --net ip link add "port$n" type veth peer name underlay netns "$(<"$HOSTS/$host/pid")"
        within "$hub" ip link set "port$n" master lan up
        within "$host" sh -ec "
            ip address add 192.0.2.$n/24 dev underlay
            ip address add 2001:db8::$n/64 dev underlay nodad
            ip link set underlay up
            ip route add default via 192.0.2.254
            ip -6 route add default via 2001:db8::254 dev underlay"
    done
}

# spawn NAME DAEMON COMMAND… starts a daemon in a session of its own; its parent becomes the host's first process.
spawn() {
    local name=$1 daemon=$2; shift 2
    within "$name" bash -c 'setsid "${@:3}" </dev/null >>"$1" 2>&1 & echo $! >"$2"' \
        spawn "$HOSTS/$name/$daemon.log" "$HOSTS/$name/$daemon.started" "$@"
}

# send NAME DAEMON SIGNAL uses the shell's kill: the other one is not on every machine.
send() { within "$1" sh -c 'kill "$@"' kill "-$3" "$(<"$HOSTS/$1/$2.started")"; }

# root is the host's root directory, as seen from outside: looking there takes no process inside.
root() { root=/proc/$(<"$HOSTS/$1/pid")/root; } # NAME

alive() { # NAME DAEMON
    local root
    root "$1"
    [[ -d $root/proc/$(<"$HOSTS/$1/$2.started") ]]
}

gone() { ! alive "$@"; }

# ready NAME DAEMON SOCKET COMMAND… waits until the socket is there and the command succeeds; it ends early if the daemon ends.
ready() {
    local name=$1 daemon=$2 socket=$3 root end=$((SECONDS + patience)) tries=0; shift 3
    root "$name"
    until [[ -S $root$socket ]] && within "$name" "$@" >/dev/null 2>&1; do
        alive "$name" "$daemon" 2>/dev/null || { tail -5 "$HOSTS/$name/$daemon.log" >&2; die "$daemon ended on host $name"; }
        ((SECONDS < end)) || die "$daemon does not answer on host $name"
        rest $((tries++))
    done
}

signal() { # NAME DAEMON SIGNAL
    send "$@" || die "$2 does not run on host $1"
    await $patience gone "$1" "$2" || die "$2 did not end on host $1"
}

dockerd() { # NAME start [FLAG…] | NAME SIGNAL
    local name=$1 verb=$2 dir=$HOSTS/$1; shift 2
    [[ $verb == start ]] || { signal "$name" dockerd "$verb"; return; }
    # A runc without seccomp refuses every container that has a profile.
    runc --version | grep -q libseccomp || set -- --seccomp-profile unconfined "$@"
    # When it is to end it waits 10 s for containers that ignore TERM. By its own time limit it gives up 5 s later.
    spawn "$name" dockerd dockerd --config-file "$dir/daemon.json" --data-root "$dir/docker" --pidfile /run/docker.pid --shutdown-timeout 60 \
        --host unix:///run/docker.sock --bridge none --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/tapestry-$name-$(<"$dir/pid")" "$@"
    # The socket exists before dockerd has restored its containers, and then answers when it has.
    ready "$name" dockerd /run/docker.sock docker version
}

tapestry() { # NAME start [FLAG…] | NAME SIGNAL
    local name=$1 verb=$2 dir=$HOSTS/$1; shift 2
    [[ $verb == start ]] || { signal "$name" tapestry "$verb"; return; }
    spawn "$name" tapestry tapestry run --state-dir "$dir/state" "$@"
    ready "$name" tapestry /run/docker/plugins/tapestry.sock tapestry status
}

# pluginid is the plugin's ID; it fails if there is none.
pluginid() { within "$1" docker plugin inspect --format '{{.ID}}' tapestry 2>/dev/null; } # NAME

# pluginpid is its process, as containerd wrote it down; it fails if it does not run.
pluginpid() { # NAME
    local id
    id=$(pluginid "$1") && within "$1" sh -ec '
        pid=$(cat "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby/$1/init.pid" 2>/dev/null)
        [ -d "/proc/$pid" ] && echo "$pid"' sh "$id"
}

pluginruns() { pluginpid "$1" >/dev/null && within "$1" tapestry --api-socket "/run/docker/plugins/$2/tapestry-api.sock" status; } # NAME ID

plugin() { # NAME start [FLAG…] | NAME TERM|KILL|id|pid
    local name=$1 verb=$2 id pid said is; shift 2
    case $verb in
    start)
        pluginid "$name" >/dev/null ||
            within "$name" env TAPESTRY="$TAPESTRY" "${self%/*}/../packaging/plugin.sh" create tapestry >/dev/null
        id=$(pluginid "$name")
        is=$(within "$name" docker plugin inspect --format '{{.Enabled}} {{join .Settings.Args " "}}' tapestry)
        if [[ $is != "true $*" ]]; then
            [[ $is != true* ]] || within "$name" docker plugin disable -f tapestry >/dev/null
            within "$name" docker plugin set tapestry args="$*"
            if ! said=$(within "$name" docker plugin enable tapestry 2>&1); then
                cat "$HOSTS/$name/docker/plugins/$id/propagated-mount/error" >&2 || true
                die "the plugin does not start on host $name: $said"
            fi
        fi
        await $patience pluginruns "$name" "$id" || die "the plugin does not answer on host $name"
        ;;
    TERM) within "$name" docker plugin disable -f tapestry >/dev/null ;;
    KILL)
        pid=$(pluginpid "$name") || die "the plugin does not run on host $name"
        within "$name" sh -c 'kill -9 "$1"' kill "$pid"
        await $patience within "$name" sh -c '! test -d "/proc/$1"' sh "$pid" || die "the plugin did not end on host $name"
        ;;
    id | pid) "plugin$verb" "$name" ;;
    *) die "plugin $name $verb: no such verb" ;;
    esac
}

# image imports tp/net: busybox with all its names, ping (busybox's cannot forbid fragments), iperf3 and their libraries.
image() { # NAME
    local tar=${IMAGE:-$HOSTS/image.tar} root bin lib
    if [[ ! -s $tar ]]; then
        root=$HOSTS/$1/root
        mkdir -p "$root"/{bin,sbin,etc,proc,sys,dev,tmp,root,usr/bin}
        for bin in busybox ping iperf3; do
            cp --remove-destination "$(command -v $bin)" "$root/bin/$bin"
            for lib in $(ldd "$(command -v $bin)" 2>/dev/null | grep -o '/[^ ]*'); do
                mkdir -p "$root$(dirname "$lib")" && cp -Lu "$lib" "$root$lib"
            done
            [[ $bin != busybox ]] || chroot "$root" /bin/busybox --install -s /bin
        done
        echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
        tar -C "$root" -cf "$tar.$1" . && mv "$tar.$1" "$tar"
        rm -rf "$root"
    fi
    within "$1" docker import --change 'CMD ["sleep", "1000000"]' - tp/net <"$tar" >/dev/null
}

down() { # NAME
    local dir=$HOSTS/$1 pid guard plugin
    [[ -d $dir ]] || return 0
    if [[ -s $dir/guard ]]; then
        guard=$(<"$dir/guard")
        [[ $guard == $$ ]] || kill -- "-$guard" 2>/dev/null || true
    fi
    if [[ -s $dir/pid ]]; then
        pid=$(<"$dir/pid")
        kill -KILL "$pid" 2>/dev/null || true # the kernel ends every process of the namespace with it
        await $patience bash -c "! kill -0 $pid" || die "host $1 does not end"
        find /sys/fs/cgroup -depth -type d -path "*/tapestry-$1-$pid*" -exec rmdir {} + 2>/dev/null || true
        for plugin in "$dir"/docker/plugins/*/config.json; do # a plugin's has its ID for a name, wherever dockerd is
            plugin=$(basename "$(dirname "$plugin")")
            [[ ! $plugin =~ ^[0-9a-f]{64}$ ]] || find /sys/fs/cgroup -depth -type d -path "*/$plugin*" -exec rmdir {} + 2>/dev/null || true
        done
    fi
    rm -rf "$dir"
    [[ $(echo "$HOSTS"/*/pid) != "$HOSTS/*/pid" ]] || rm -f "$HOSTS/image.tar" # that was the last host
    rmdir --ignore-fail-on-non-empty "$HOSTS"
}

verb=${1:-}
case $verb in
up | wire | lan | image | down | dockerd | tapestry | plugin | first) shift; "$verb" "$@" ;;
in) shift; enter "$@" ;;
*) sed -n '2,/^set /{/^#/p}' "$self" >&2; exit 2 ;;
esac
