#!/bin/bash
# demo.sh shows tapestry at work: two containers on one host, then the same network on two hosts.
# The hosts are namespaces with dockerds of their own (host.sh); the machine's own Docker is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ $EUID == 0 ]] || { echo 'the demo makes namespaces and networks: run it as root' >&2; exit 1; }

HOSTS=$(mktemp -d /tmp/tapestry-demo.XXXXXX)
export HOSTS OWNER=$$
sniffer=
ended=

cleanup() {
    local status=$?
    trap - EXIT
    trap '' HUP INT TERM # the clean-up itself is not to be interrupted
    [[ -z $sniffer ]] || kill "$sniffer" 2>/dev/null || true
    if [[ $status != 0 && $status != 130 ]]; then
        tail -n 20 "$HOSTS"/*/tapestry.log >&2 2>/dev/null || true
    fi
    test/host.sh down a || status=1
    test/host.sh down b || status=1
    rm -rf "$HOSTS"
    if [[ $status == 0 && $ended ]]; then
        echo "${green}Done in $SECONDS s: all of it worked, and nothing of it is left.$plain"
    else
        echo "${red}The demo did not get to its end; what it had made is removed.$plain" >&2
    fi
    exit "$status"
}

bold='' dim='' green='' red='' plain=''
[[ ! -t 1 ]] || { bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; }
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
say() { echo; printf '%s\n' "$@"; }

# on HOST COMMAND… shows the command as if typed on that host, and runs it there.
on() {
    local host=$1; shift
    printf '%s%s#%s %s\n' "$dim" "$host" "$plain" "$*"
    test/host.sh in "$host" "$@"
}

start() { # HOST: dockerd, image, tapestry
    test/host.sh dockerd "$1" start
    test/host.sh image "$1"
    printf '%s%s#%s tapestry run &\n' "$dim" "$1" "$plain"
    test/host.sh tapestry "$1" start
}

title 'Getting ready'
test/deps.sh dockerd docker ip iptables ping iperf3 tcpdump busybox
make --no-print-directory -s build
test/host.sh up a
test/host.sh up b
test/host.sh wire a b
echo 'Two hosts stand on this machine, a (192.0.2.1) and b (192.0.2.2), with a cable between them.'
echo 'Each will run a dockerd of its own. The demo takes half a minute at most.'

title 'One host'
say 'The daemon comes first. Docker finds its socket in /run/docker/plugins.'
start a
say 'A network is made as with any other driver.'
on a docker network create -d tapestry --subnet 10.77.0.0/24 mynet
say 'Two containers on it: each gets a port of the switch that tapestry runs for this network.'
on a docker run -d --name web --network mynet tp/net httpd -f -p 80 -h /etc
on a docker run -d --name client --network mynet tp/net
say 'They find each other by name.'
on a docker exec client ping -c 3 -i 0.2 web
say 'And they reach the world through docker_gwbridge: 192.0.2.2 is the other host.'
on a docker exec client ping -c 1 192.0.2.2
say 'The switch from inside: its ports, with what came in (rx) and left (tx) by each, …'
on a tapestry ports mynet
say '… and its addresses. Those of containers are pinned: no other port can take them.'
on a tapestry fdb mynet

title 'Two hosts, one network'
say 'With a VNI a network crosses hosts, in VXLAN. The same command on both hosts,' \
    'but for the peer and the range that each hands out addresses from.'
start b
on a docker network create -d tapestry --subnet 10.80.0.0/16 --ip-range 10.80.1.0/24 --gateway 10.80.1.1 \
    -o tapestry.vni=80 -o tapestry.peers=192.0.2.2 wide
on b docker network create -d tapestry --subnet 10.80.0.0/16 --ip-range 10.80.2.0/24 --gateway 10.80.2.1 \
    -o tapestry.vni=80 -o tapestry.peers=192.0.2.1 wide
on a docker run -d --name red --network wide --ip 10.80.1.10 tp/net
on b docker run -d --name blue --network wide --ip 10.80.2.10 tp/net
say 'red on host a pings blue on host b, while tcpdump looks at the cable between the hosts.'
# In VXLAN the inner frame's type is 28 bytes behind the start of the UDP header.
test/host.sh in a timeout 180 tcpdump -nvi underlay -c 1 'udp port 4789 and udp[28:2] = 0x800' >"$HOSTS/packet" 2>"$HOSTS/tcpdump" &
sniffer=$!
until grep -qs 'listening on' "$HOSTS/tcpdump"; do
    kill -0 "$sniffer" 2>/dev/null || { cat "$HOSTS/tcpdump" >&2; exit 1; } # it ends by itself after 180 s
    sleep 0.05
done
on a docker exec red ping -c 3 -i 0.2 10.80.2.10
wait "$sniffer"
sniffer=
say 'This is what the cable saw of the first ping: an Ethernet frame in VXLAN 80 in UDP.'
cat "$HOSTS/packet"
say 'TCP for two seconds, from host a to host b:'
on b docker exec -d blue iperf3 --server --one-off
test/host.sh in b docker exec blue timeout 180 sh -c 'until netstat -ltn | grep -q :5201; do sleep 0.1; done'
on a docker exec red iperf3 --client 10.80.2.10 --time 2 --format g --interval 0
say 'The remote host is a port of the switch like any other. tapestry knows how it is doing:'
on a tapestry peers
on a tapestry fdb wide

echo
ended=yes
