#!/bin/sh
# wide.sh N PEER[,PEER…] makes this host's part of the network "wide": 10.80.0.0/16, VNI 80.
#
# N is this host's number, 1 to 254, another one on each host: its containers get addresses from 10.80.N.0/24.
# The PEERs are the underlay addresses of the other hosts.
set -eu

n=${1:?number of this host, 1 to 254}
peers=${2:?addresses of the other hosts, as in 192.0.2.2,192.0.2.3}

docker network create --driver tapestry \
    --subnet 10.80.0.0/16 --ip-range "10.80.$n.0/24" --gateway "10.80.$n.1" \
    --opt tapestry.vni=80 --opt tapestry.peers="$peers" \
    wide
