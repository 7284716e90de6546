package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A verdict is a finding and what is wanted of it: its state and words of what was seen and of the remedy.
type verdict struct {
	name         string
	got          finding
	state        string
	seen, remedy string
}

func judge(t *testing.T, all []verdict) {
	t.Helper()
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			if v.got.State != v.state || !strings.Contains(v.got.Seen, v.seen) || !strings.Contains(v.got.Remedy, v.remedy) {
				t.Errorf("got  %+v\nwant %s, %q, %q", v.got, v.state, v.seen, v.remedy)
			}
			if v.got.Check == "" || (v.got.State == good) != (v.got.Remedy == "") {
				t.Errorf("%+v: want the name of a check, and a remedy unless it is ok", v.got)
			}
		})
	}
}

var all = tap.TUN{Header: true, Csum: true, TSO: true, USO: true, Tunnels: true}

func TestCheckKernel(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("open /dev/net/tun: %w", err) }
	granted := func(receive, send int) tunnel.Sockets {
		return tunnel.Sockets{Wanted: 8 << 20, Receive: receive, Send: send}
	}
	judge(t, []verdict{
		{"tun", checkTUN(all, nil, "modprobe tun"), good, "checksums yes, TSO yes, USO yes, UDP tunnels yes", ""},
		{"tun without USO", checkTUN(tap.TUN{Header: true, Csum: true, TSO: true}, nil, ""), good, "USO no, UDP tunnels no", ""},
		{"tun without TSO", checkTUN(tap.TUN{Header: true, Csum: true}, nil, ""), warn, "TSO no", "newer kernel"},
		{"tun without a header", checkTUN(tap.TUN{Csum: true, TSO: true}, nil, ""), bad, "IFF_VNET_HDR", "newer kernel"},
		{"no node", checkTUN(tap.TUN{}, fmt.Errorf("make a tap: %w", &tap.NodeError{Wrong: "there is no /dev/net/tun", Remedy: "mknod"}), "modprobe tun"), bad, "there is no /dev/net/tun", "mknod"},
		{"no tun", checkTUN(tap.TUN{}, &tap.NodeError{Wrong: "this kernel has no tun driver"}, "modprobe tun"), bad, "no tun driver", "modprobe tun"},
		{"tun without a driver", checkTUN(tap.TUN{}, wrap(unix.ENODEV), "modprobe tun"), bad, "no such device", "modprobe tun"},
		{"tun forbidden", checkTUN(tap.TUN{}, wrap(unix.EPERM), "modprobe tun"), bad, "not permitted", "as root"},
		{"no namespace", checkTUN(tap.TUN{}, fmt.Errorf("%w: %w", tap.ErrNoNamespace, unix.EPERM), ""), warn, "not tried", "not in a container"},
		{"veth", checkTried("veth", "it works", nil, ""), good, "it works", ""},
		{"no veth", checkTried("veth", "", unix.EOPNOTSUPP, "modprobe veth"), bad, "not supported", "modprobe veth"},
		{"trains", checkTrains(tunnel.Sockets{}, nil), good, "UDP_SEGMENT", ""},
		{"no socket", checkTrains(tunnel.Sockets{}, unix.EMFILE), bad, "too many open files", "ulimit"},
		{"no GSO", checkTrains(tunnel.Sockets{GSO: unix.EINVAL, GRO: unix.EINVAL}, nil), warn, "UDP_SEGMENT", "kernel"},
		{"no GRO", checkTrains(tunnel.Sockets{GRO: unix.ENOPROTOOPT}, nil), warn, "UDP_GRO", "kernel"},
		{"buffers", checkBuffers(granted(8<<20, 8<<20)), good, "8192 KiB to receive", ""},
		{"short buffers", checkBuffers(granted(208<<10, 8<<20)), warn, "208 KiB to receive, 8192 KiB to send, 8192 KiB wanted", "net.core.rmem_max=8388608"},
		{"short buffers to send", checkBuffers(granted(8<<20, 1<<20)), warn, "1024 KiB to send", "net.core.wmem_max=8388608"},
	})
}

func TestCheckUnderlay(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	eth := func(mtu int) tunnel.Path { return tunnel.Path{Link: "eth0", MTU: mtu} }
	none := tunnel.Path{}
	inUse := fmt.Errorf("bind UDP 192.0.2.1:4789: %w", unix.EADDRINUSE)
	judge(t, []verdict{
		{"underlay", checkUnderlay(v4, eth(1500), nil, supervisor{}), good, "192.0.2.1 by eth0, MTU 1500: room for 1450", ""},
		{"underlay, IPv6", checkUnderlay(v6, eth(1500), nil, supervisor{}), good, "room for 1430", ""},
		{"narrow underlay", checkUnderlay(v4, eth(1300), nil, supervisor{}), warn, "room for 1250 in a network with a VNI, IPv6 needs 1280", "ip link set eth0 mtu 1500"},
		{"no default route", checkUnderlay(netip.Addr{}, none, errors.New("there is no default route"), supervisor{}), warn, "no default route", "--vtep ADDR"},
		{"link down", checkUnderlay(v4, eth(1500), errors.New("link eth0 is down"), supervisor{}), bad, "192.0.2.1: link eth0 is down", "ip link set eth0 up"},
		{"no default route to an address on lo", checkUnderlay(v4, none, nil, supervisor{}), good, "the route to each peer tells its MTU", ""},
		{"foreign address", checkUnderlay(v4, none, fmt.Errorf("%w %s", tunnel.ErrNoAddress, v4), supervisor{}), bad, "no link of this host has the address 192.0.2.1", "--vtep"},

		{"port of the daemon", checkPort(4789, statusReply{Tunnel: "open"}, nil, "", supervisor{}), good, "UDP 4789 is the daemon's; whether firewalls", ""},
		{"free port", checkPort(4790, statusReply{}, nil, "", supervisor{}), good, "UDP 4790 is free; whether firewalls", ""},
		{"taken port", checkPort(4789, statusReply{Tunnel: "closed"}, inUse, "the kernel's vxlan device vx9 (VNI 9)", supervisor{}), warn, "taken by the kernel's vxlan device vx9", "ss -ulpn sport = :4789"},
		{"taken port that is needed", checkPort(4789, statusReply{Tunnel: "down", Why: "…"}, inUse, "named (process 7)", supervisor{}), bad, "taken by named (process 7)", "--vxlan-port"},
		{"address gone", checkPort(4789, statusReply{Tunnel: "down"}, unix.EADDRNOTAVAIL, "", supervisor{}), bad, "assign requested address", "--vtep"},
		{"tunnel down, port free again", checkPort(4789, statusReply{Tunnel: "down", Why: "UDP port 4789 was taken"}, nil, "", supervisor{}), bad, "UDP port 4789 was taken", "every 5 s"},

		{"br_netfilter", checkBridge("1", true, ""), good, "cross no bridge", ""},
		{"br_netfilter off, no bridge", checkBridge("0", false, ""), good, "Docker changes that", ""},
		{"br_netfilter off", checkBridge("0", true, ""), warn, "reach each other", "bridge-nf-call-iptables=1"},
		{"no br_netfilter", checkBridge("", false, "modprobe br_netfilter"), good, "Docker loads it when needed", ""},
		{"br_netfilter unloaded", checkBridge("", true, "modprobe br_netfilter"), warn, "reach each other", "modprobe br_netfilter"},

		{"forwarding", checkForward("1", true, "nftables"), good, "on", ""},
		{"no forwarding yet", checkForward("0", false, "iptables"), good, "Docker turns it on", ""},
		{"no forwarding", checkForward("0", true, "nftables"), warn, "do not get out", "ip_forward=1"},
		{"no forwarding, a Docker that does not tell", checkForward("0", false, ""), good, "Docker turns it on", ""},
		{"no forwarding, nftables", checkForward("0", false, "nftables"), bad, "no container starts on a network with tapestry.external=on", "ip_forward=1"},
	})
}

func TestCheckDocker(t *testing.T) {
	const at, sock = "unix:///var/run/docker.sock", "/run/docker/plugins/tapestry.sock"
	driver := []string{"NetworkDriver"}
	judge(t, []verdict{
		{"29", checkDocker(at, "29.1.2", nil), good, "29.1.2", ""},
		{"oldest", checkDocker(at, "20.10.0-rc1", nil), good, "20.10.0", ""},
		{"too old", checkDocker(at, "20.9.1", nil), warn, "older", "20.10"},
		{"much too old", checkDocker(at, "1.13", nil), warn, "older", "20.10"},
		{"newer", checkDocker(at, "31.0.0", nil), good, "newer than those that were tested", ""},
		{"of no version", checkDocker(at, "dev", nil), warn, `unknown version "dev"`, "docker version"},
		{"away", checkDocker(at, "", unix.ECONNREFUSED), warn, "does not answer at " + at, "systemctl start docker"},

		{"plugin", checkPlugin(sock, driver, nil), good, "answers", ""},
		{"no plugin", checkPlugin(sock, nil, fs.ErrNotExist), warn, "does not exist", "systemctl start tapestry"},
		{"stale plugin", checkPlugin(sock, nil, unix.ECONNREFUSED), bad, "stale", "systemctl restart tapestry"},
		{"another thing", checkPlugin(sock, nil, errors.New("EOF")), bad, "does not answer as a plugin does: EOF", "ss -xlp"},
		{"another plugin", checkPlugin(sock, []string{"VolumeDriver"}, nil), bad, "is another plugin, of VolumeDriver", "--name"},
	})
}

func TestActivate(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Implements":["NetworkDriver"]}`))
	})
	if got, err := activate(t.Context(), serveUnix(t, "p.sock", mux)); err != nil || !slices.Equal(got, []string{"NetworkDriver"}) {
		t.Errorf("a plugin implements %v, %v", got, err)
	}
	if _, err := activate(t.Context(), serveUnix(t, "x.sock", http.NotFoundHandler())); err == nil {
		t.Error("what answers otherwise passes for a plugin")
	}
	stale := filepath.Join(t.TempDir(), "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := activate(t.Context(), stale); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a stale socket gives %v", err)
	}
}

func TestCheckState(t *testing.T) {
	const dir = "/var/lib/tapestry"
	info := func(mode fs.FileMode) fs.FileInfo {
		d := t.TempDir()
		path := filepath.Join(d, "f")
		if mode.IsDir() {
			path = d
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode.Perm()); err != nil {
			t.Fatal(err)
		}
		i, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	away := fmt.Errorf("%w: start it", errNoDaemon)
	room := func(free, inodes uint64) unix.Statfs_t {
		return unix.Statfs_t{Bsize: 1000, Bavail: 1, Bfree: free / 1000, Files: 1000, Ffree: inodes}
	}
	judge(t, []verdict{
		{"whole", checkState(dir, info(fs.ModeDir|0o700), nil, 2, nil), good, "2 networks, all records whole", ""},
		{"none yet", checkState(dir, nil, fs.ErrNotExist, 0, nil), good, "not there yet", ""},
		{"read-only", checkState(dir, info(fs.ModeDir|0o700), unix.EROFS, 0, nil), bad, "read-only file system", "findmnt"},
		{"a file", checkState(dir, info(0o600), nil, 0, unix.ENOTDIR), bad, "is no directory", "--state-dir"},
		{"open to others", checkState(dir, info(fs.ModeDir|0o777), nil, 0, nil), bad, "mode 777", "chmod 700 " + dir},
		{"of another version", checkState(dir, info(fs.ModeDir|0o700), nil, 0, fmt.Errorf("state file a.json: %w", fabric.ErrVersion)), bad, "a.json", "run that tapestry"},
		{"torn, of the Swarm", checkState(dir, info(fs.ModeDir|0o700), nil, 0, errors.New("state file "+dir+"/swarm.json: not whole")), bad, "swarm.json: not whole", "tapestry peers learn"},
		{"torn", checkState(dir, info(fs.ModeDir|0o700), nil, 0, errors.New("state file a.json: not whole")), bad, "a.json: not whole", "mv that file"},

		{"space", checkSpace(dir, room(5e9, 10), nil), good, "5.0 GB free", ""},
		{"little space", checkSpace(dir, room(15e6, 10), nil), warn, "15 MB", "df -h"},
		{"no space", checkSpace(dir, room(5e5, 10), nil), bad, "cannot be recorded", "df -h"},
		{"no inodes", checkSpace(dir, room(5e9, 0), nil), bad, "no inode", "df -i"},
		{"space unknown", checkSpace(dir, unix.Statfs_t{}, unix.EIO), warn, "input/output error", "findmnt"},

		{"daemon", checkDaemon(statusReply{Name: "tapestry", Version: "v1", PID: 7}, nil, "v1", dir, 1, supervisor{}), good, "version v1, running 0s, pid 7", ""},
		{"another version", checkDaemon(statusReply{Version: "v1"}, nil, "v2", dir, 1, supervisor{}), warn, "version v1, this is v2", "systemctl restart"},
		{"never run", checkDaemon(statusReply{}, away, "v2", dir, 0, supervisor{}), warn, "does not run", "start it"},
		{"down", checkDaemon(statusReply{}, away, "v2", dir, 1, supervisor{}), bad, "does not run, and 1 network on record in " + dir + " cannot be used", "start it"},
		{"hangs", checkDaemon(statusReply{}, errors.New("not in time: see its log"), "v2", dir, 1, supervisor{}), bad, "does not answer, and 1 network on record", "see its log"},
		{"foreign", checkDaemon(statusReply{}, errors.New("is no tapestry"), "v2", dir, 0, supervisor{}), warn, "does not answer", "is no tapestry"},
	})
}

func TestCheckDaemon(t *testing.T) {
	d := &docker{}
	wide := networkReply{ID: wideID, Name: "wide", VNI: 80, MTU: 1450}
	conflict := conflictReply{Network: wideID, MAC: ether.MAC{2, 0x42}, Owner: webID, Rival: "192.0.2.2"}
	web := portReply{Network: wideID, NetworkName: "wide", Kind: "container", Container: "web", MTU: 1450}
	long, cut := web, web
	swept, unplugged, halved := web, web, web
	unplugged.MAC, unplugged.Why, halved.Why = "02:42:0a:50:01:02", tap.ErrDown.Error(), tap.ErrHostEnd.Error()
	long.MTU, cut.Why, swept.Why = 8950, "open tap: gone", tap.ErrGone.Error()
	heard := int64(3)
	peer := peerReply{Network: wideID, NetworkName: "wide", Addr: "192.0.2.2:4789", MTU: 1450, HeardSeconds: &heard}
	narrow, down, silent := peer, peer, peer
	narrow.MTU, silent.HeardSeconds, down.MTU, down.Why = 1350, nil, 0, "no route"
	eth := net.Interface{Name: "eth0", MTU: 1500}
	byEth := func(netip.AddrPort) net.Interface { return eth }
	status := statusReply{VTEP: "192.0.2.1", VXLANPort: 4790}
	eth.Index = 2
	by := func(i int, name string, flags net.Flags) func(netip.AddrPort) net.Interface {
		return func(netip.AddrPort) net.Interface { return net.Interface{Index: i, Name: name, Flags: flags} }
	}
	dotted := eth
	dotted.Name = "eth0.7"
	on := func(link string) func(string) string { return func(string) string { return link } }
	at := peer.Addr
	vtep := netip.MustParseAddr("192.0.2.1")
	first := func(all []finding) finding { return all[0] }
	test := func(verdicts ...string) (all []testReply) {
		for _, v := range verdicts {
			all = append(all, testReply{Addr: "192.0.2.2:4789", GSO: v, Why: "3 of 40", Answers: v != "no answer"})
		}
		return all
	}
	judge(t, []verdict{
		{"networks", first(checkNetworks([]networkReply{wide}, nil, d, nil)), good, "1 network, no address claimed twice", ""},
		{"network down", first(checkNetworks([]networkReply{{Name: "wide", Down: "UDP port 4789 is taken"}}, nil, d, nil)), bad, "wide has no tunnel: UDP port", "tapestry networks"},
		{"claimed twice", first(checkNetworks([]networkReply{wide}, []conflictReply{conflict}, d, nil)), warn, "is claimed by 192.0.2.2 too", "--ip-range"},

		{"ports", first(checkPorts([]portReply{web, {Kind: "remote", Why: "its own line"}}, supervisor{})), good, "1 container, none cut off", ""},
		{"port down", first(checkPorts([]portReply{web, cut}, supervisor{})), bad, "web on wide is cut off: open tap", "docker network disconnect wide web"},
		{"port whose link is down", first(checkPorts([]portReply{web, unplugged}, supervisor{})), warn, "web on wide gets nothing: the link is down in the container", "docker exec --privileged web ip link set eth0 up (the link that has 02:42:0a:50:01:02)"},
		{"port whose host end is down", first(checkPorts([]portReply{web, halved}, supervisor{})), bad, "web on wide is cut off: the link's end on this host is down", "systemctl restart tapestry"},
		{"port of a container that has ended", first(checkPorts([]portReply{web, swept}, supervisor{})), warn, "web on wide: the container's link is gone", "--sweep-after"},

		{"mtu", first(checkMTU([]networkReply{wide}, []portReply{web}, []peerReply{peer}, nil, byEth)), good, "fits 1 way", ""},
		{"mtu of another network", first(checkMTU([]networkReply{wide}, []portReply{{Network: otherID, Kind: "container", MTU: 9000}}, []peerReply{peer}, nil, byEth)), good, "fits", ""},
		{"mtu of the way", first(checkMTU([]networkReply{wide}, nil, []peerReply{narrow}, nil, byEth)), bad, "up to 1450 bytes, the way to 192.0.2.2:4789 takes 1350", "widen the way, or make the network anew with -o com.docker.network.driver.mtu=1350"},
		{"mtu of the underlay", first(checkMTU([]networkReply{wide}, []portReply{long}, []peerReply{peer}, nil, byEth)), bad, "up to 8950 bytes", "ip link set eth0 mtu 9000"},
		{"mtu of a black hole", first(checkMTU([]networkReply{wide}, nil, []peerReply{peer}, []testReply{{Addr: at, Narrow: 1500}}, byEth)), bad, "wide: datagrams of 1500 bytes do not reach 192.0.2.2:4789", "ping -M do -s SIZE 192.0.2.2"},
		{"mtu of a black hole that nothing falls into", first(checkMTU([]networkReply{{ID: wideID, MTU: 1300}}, nil, []peerReply{peer}, []testReply{{Addr: at, Narrow: 1500}}, byEth)), good, "fits", ""},
		{"peer without a way", first(checkPeers([]peerReply{down}, nil, statusReply{})), bad, "wide: no way to 192.0.2.2:4789: no route", "ip route get 192.0.2.2"},
		{"mtu of a peer that is down", first(checkMTU([]networkReply{wide}, nil, []peerReply{down}, nil, byEth)), good, "fits", ""},

		{"peers", first(checkPeers([]peerReply{peer}, nil, status)), good, "1 peer, all heard", ""},
		{"peer down", first(checkPeers([]peerReply{down}, nil, status)), bad, "wide: no way to 192.0.2.2:4789: no route", "tapestry peers"},
		{"peer silent", first(checkPeers([]peerReply{peer, silent}, test("no answer"), status)), warn, "never heard: 192.0.2.2:4789 on wide", "tapestry peers add NET 192.0.2.1; and let UDP 4790 pass"},
		{"peer silent, and its host is not", first(checkPeers([]peerReply{peer, silent}, test("ok"), status)), good, "2 peers; silent so far, but the host answers: 192.0.2.2:4789 on wide", ""},

		{"test", first(checkTests(test("ok", "ok", "no answer"), "", on("eth0"))), good, "whole at 2 peers; no tapestry answers at 192.0.2.2:4789", ""},
		{"test of nobody", first(checkTests(nil, "", on(""))), good, "0 peers", ""},
		{"mangled", first(checkTests(test("ok", "mangled"), "", on("eth0"))), warn, "arrive mangled at 192.0.2.2:4789, so they go one by one, slower: 3 of 40", "ethtool -K eth0 tx-udp-segmentation off"},
		{"refused", first(checkTests(test("refused"), "", on("eth0"))), warn, "refuses segments to 192.0.2.2:4789", "ethtool -K eth0 tx on"},
		{"refused, and no way", first(checkTests(test("refused"), "", on(""))), warn, "refuses segments to 192.0.2.2:4789", "take another kernel"},
		{"narrow", first(checkTests([]testReply{{Addr: at, GSO: "untested", Narrow: 1500}}, "", on("eth0"))), good, "not tested where long ones are lost: 192.0.2.2:4789", ""},
		{"untested", first(checkTests(test("untested"), "", on("eth0"))), warn, "too many segments were lost to tell: 192.0.2.2:4789", "ping"},
		{"test not finished", first(checkTests(test("ok"), "wait for the answers: deadline exceeded", on("eth0"))), warn, "not finished: wait for", "again"},

		{"offloads", checkOffloads([]offloadReply{{Name: "csum", State: "on"}, {Name: "uso", State: "unavailable", Why: "not supported by this kernel"}}), good, "csum on; uso unavailable", ""},
		{"no offloads yet", checkOffloads([]offloadReply{{Name: "csum", State: "unused"}}), good, "nothing uses any yet", ""},
		{"offload refused", checkOffloads([]offloadReply{{Name: "csum", State: "on"}, {Name: "udp_gso", State: "off", Why: "EIO", Users: 2, Off: 1}}), warn, "csum on; udp_gso off at 1 of 2 (EIO", "tapestry peers"},
		{"flag lost", checkOffloads([]offloadReply{{Name: "csum", State: "on"}, {Name: "remote_checksum", State: "off", Why: "lost", Users: 2, Off: 1}}), warn, "remote_checksum off at 1 of 2 (lost): summed twice there", "reserved bits"},

		{"received", checkReceived(statusReply{Outside: map[string]uint64{"bad_checksum": 0}, Strangers: map[string]uint64{"no_peer": 7}}, "eth0"), good, "no datagram was lost", ""},
		{"received with wrong checksums", checkReceived(statusReply{VXLANPort: 4790, Outside: map[string]uint64{"bad_checksum": 3}}, "eth0"), warn, "dropped 3 datagrams for a wrong checksum", "tcpdump -ni eth0 -vv udp port 4790"},
		{"received without memory", checkReceived(statusReply{Outside: map[string]uint64{"no_memory": 1}}, ""), warn, "dropped 1 datagram since", "net.ipv4.udp_mem"},
		{"received too fast", checkReceived(statusReply{Strangers: map[string]uint64{"overflow": 2}}, ""), warn, "2 datagrams came faster", "buffers"},

		{"rp_filter", checkReversePath(true, eth, vtep, []peerReply{peer}, by(2, "eth0", 0), supervisor{}), good, "lets in", ""},
		{"rp_filter, another way", checkReversePath(true, dotted, vtep, []peerReply{peer, peer}, by(3, "eth1", 0), supervisor{}), warn, "the way to 192.0.2.2:4789 leaves by another link", "net/ipv4/conf/eth0.7/rp_filter=2"},
		{"rp_filter, the address on lo", checkReversePath(true, net.Interface{Index: 1, Name: "lo", Flags: net.FlagLoopback}, vtep, []peerReply{peer}, by(3, "eth1", 0), supervisor{}), good, "lets in", ""},
		{"rp_filter, from an address on lo", checkReversePath(true, eth, vtep, []peerReply{peer}, by(1, "lo", net.FlagLoopback), supervisor{}), good, "lets in", ""},
		{"rp_filter, loose", checkReversePath(false, eth, vtep, []peerReply{peer}, by(3, "eth1", 0), supervisor{}), good, "lets in", ""},
		{"rp_filter, no way", checkReversePath(true, eth, vtep, []peerReply{peer}, by(0, "", 0), supervisor{}), good, "lets in", ""},
	})
}

// healthy is a machine on which everything works, with no file but those that a test puts below root.
func healthy(t *testing.T) machine {
	vtep := netip.MustParseAddr("192.0.2.1")
	return machine{root: t.TempDir(), tun: func() (tap.TUN, error) { return all, nil },
		veth: func() error { return nil }, redirect: func() error { return nil },
		sockets: func() (tunnel.Sockets, error) { return tunnel.Sockets{}, nil },
		bind:    func(netip.AddrPort) error { return nil }, holder: func(uint16) string { return "" },
		address:  func() (netip.Addr, error) { return vtep, nil },
		carrier:  func(netip.Addr) (net.Interface, error) { return net.Interface{Name: "eth0", MTU: 1500}, nil },
		underlay: func(netip.Addr) (tunnel.Path, error) { return tunnel.Path{Link: "eth0", MTU: 1500}, nil },
		path:     func(_, _ netip.Addr) (tunnel.Path, error) { return tunnel.Path{Link: "eth0", MTU: 1500}, nil },
		link:     func(name string) (*net.Interface, error) { return &net.Interface{Name: name, MTU: 1500}, nil },
		space:    func(string) (unix.Statfs_t, error) { return unix.Statfs_t{Bsize: 1, Bfree: 1e9}, nil }}
}

// Docker with the nftables backend makes no docker_gwbridge while nothing forwards.
func TestDoctorFirewall(t *testing.T) {
	for backend, want := range map[string]string{`{}`: good, `{"FirewallBackend":{"Driver":"iptables"}}`: good, `{"FirewallBackend":{"Driver":"nftables"}}`: bad} {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })
		mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(backend)) })
		t.Setenv("DOCKER_HOST", "unix://"+serveUnix(t, "docker.sock", mux))
		m := healthy(t)
		m.put(t, "net/ipv4/ip_forward", "0")
		m.link = func(name string) (*net.Interface, error) { return nil, errors.New("no such link") }
		_, found, _ := visit(t, m)
		got := ""
		for _, f := range found {
			if f.Check == "ip_forward" {
				got = f.State
			}
		}
		if got != want {
			t.Errorf("%s: ip_forward is %q, want %q", backend, got, want)
		}
	}
}

// put writes a kernel setting of m.
func (m machine) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.root, "proc/sys", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// visit runs doctor on a machine and gives its exit code, its findings, and what it says without --json.
func visit(t *testing.T, m machine, args ...string) (int, []finding, string) {
	t.Helper()
	plugins := t.TempDir()
	if i := slices.Index(args, "--plugin-dir"); i >= 0 {
		plugins = args[i+1]
	} else {
		args = append(args, "--plugin-dir", plugins, "--state-dir", t.TempDir())
	}
	run := func(args ...string) (int, string) {
		c := &client{places: places{plugins: plugins}}
		cmd := newDoctor(c, m)
		cmd.Flags().StringVar(&c.socket, "api-socket", "", "")
		var out strings.Builder
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return exitCode(cmd.ExecuteContext(t.Context())), out.String()
	}
	var found []finding
	code, text := run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	again, text := run(args...)
	if again != code {
		t.Errorf("exit %d with --json and %d without", code, again)
	}
	return code, found, text
}

// states gives the worst of each check.
func states(found []finding) map[string]string {
	worst, m := []string{good, warn, bad}, map[string]string{}
	for _, f := range found {
		if slices.Index(worst, f.State) >= slices.Index(worst, m[f.Check]) {
			m[f.Check] = f.State
		}
	}
	return m
}

func TestDoctorWithoutDaemon(t *testing.T) {
	m := healthy(t)
	m.put(t, "net/bridge/bridge-nf-call-iptables", "1")
	dead := filepath.Join(t.TempDir(), "dead.sock")
	code, found, text := visit(t, m, "--api-socket", dead, "--docker-host", fakeDocker(t))
	if s := states(found); code != exitFine || s["tun"] != good || s["tc"] != good || s["daemon"] != warn || s["networks"] != "" {
		t.Errorf("exit %d, %v", code, s)
	}
	for _, want := range []string{"ok    tun          /dev/net/tun makes TAPs", "warn  daemon       does not run\n                   → no daemon answers at " + dead, " warn, 0 fail\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	m.tun = func() (tap.TUN, error) { return tap.TUN{}, unix.ENOENT }
	_, found, _ = visit(t, m, "--api-socket", dead, "--docker-host", fakeDocker(t))
	if s := states(found); s["tun"] != bad || s["veth"] != good || s["tc"] != "" {
		t.Errorf("without tun: %v", s)
	}
	m.tun = healthy(t).tun
	m.veth = func() error { return unix.EOPNOTSUPP }
	code, found, text = visit(t, m, "--api-socket", dead, "--docker-host", fakeDocker(t))
	if s := states(found); code != exitNo || s["veth"] != bad || s["tc"] != "" || !strings.Contains(text, " 1 fail\n") {
		t.Errorf("without veth: exit %d, %v\n%s", code, s, text)
	}
	if code, _, _ := visit(t, healthy(t), "--api-socket", dead, "--docker-host", "unix:///nonexistent"); code != exitFine {
		t.Errorf("without Docker: exit %d, want %d: it is a warning", code, exitFine)
	}
}

func TestDoctorWithDaemon(t *testing.T) {
	m := healthy(t)
	code, found, _ := visit(t, m, "--api-socket", fakeDaemon(t, newFakeHost()), "--docker-host", fakeDocker(t))
	s := states(found)
	// The fake host has a network whose port is taken, a rival, a peer that was never heard and one that mangles.
	if code != exitNo || s["daemon"] != good || s["networks"] != bad || s["port"] != good || s["mtu"] != good || s["peers"] != warn || s["selftest"] != warn || s["offloads"] != warn || s["received"] != warn || s["rp_filter"] != good {
		t.Errorf("exit %d, %v", code, s)
	}
	h := newFakeHost()
	h.empty = true
	code, found, _ = visit(t, m, "--api-socket", fakeDaemon(t, h), "--docker-host", fakeDocker(t, dockerNetwork{Driver: "bridge"}))
	if s := states(found); code != exitFine || s["networks"] != good || s["peers"] != good || s["offloads"] != good || s["received"] != good {
		t.Errorf("an idle daemon: exit %d, %v", code, s)
	}
	if keys := keysOfFindings(t, found); !slices.Equal(keys, slices.Sorted(slices.Values(documented(t)["doctor"]))) {
		t.Errorf("doctor --json has %v, docs/json.md says otherwise", keys)
	}
}

// What a daemon does not answer is a finding, and the others are printed all the same.
func TestDoctorWithMuteDaemon(t *testing.T) {
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, tt := range map[string]struct {
		path   string
		answer http.HandlerFunc
		check  string
		state  string
		said   string
		code   int
	}{
		"of a version without tests":  {"/v1/peers/test", http.NotFound, "selftest", warn, "not tested: the daemon does not understand this command (HTTP 404)", exitFine},
		"dies over the tests":         {"/v1/peers/test", hangUp, "selftest", warn, "not tested: what answers at", exitFine},
		"dies over the networks":      {"/v1/networks", hangUp, "daemon", bad, "does not answer any more: what answers at", exitNo},
		"dies over the ports":         {"/v1/ports", hangUp, "daemon", bad, "does not answer any more", exitNo},
		"dies over the peers":         {"/v1/peers", hangUp, "daemon", bad, "does not answer any more", exitNo},
		"dies over the second status": {"/v1/status", hangUp, "daemon", bad, "does not answer any more", exitNo},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost()
			h.empty = true
			whole := (&api{host: h, log: slog.New(slog.DiscardHandler), name: "tapestry"}).handler()
			var asked atomic.Int64 // the command asks many things at a time
			socket := serveUnix(t, "tapestry.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first := r.URL.Path == "/v1/status" && asked.Add(1)%2 == 1
				if r.URL.Path == tt.path && !first {
					tt.answer(w, r)
					return
				}
				whole.ServeHTTP(w, r)
			}))
			code, found, _ := visit(t, healthy(t), "--api-socket", socket, "--docker-host", fakeDocker(t, dockerNetwork{Driver: "bridge"}))
			told := slices.ContainsFunc(found, func(f finding) bool {
				return f.Check == tt.check && f.State == tt.state && strings.Contains(f.Seen, tt.said) && f.Remedy == restart
			})
			if code != tt.code || !told {
				t.Errorf("exit %d, %+v", code, found)
			}
		})
	}
}

// Interrupted, it prints what it has found by then, and says that there is no more.
func TestDoctorInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := healthy(t)
	m.veth = func() error { cancel(); return nil }
	d := &doctor{client: &client{json: true, socket: filepath.Join(t.TempDir(), "dead.sock"), dockerHost: fakeDocker(t)}, machine: m, name: "tapestry", pluginDir: t.TempDir(), stateDir: t.TempDir()}
	var out strings.Builder
	err := d.run(ctx, &out)
	var found []finding
	if bad := json.Unmarshal([]byte(out.String()), &found); bad != nil || len(found) == 0 || err == nil || err.Error() != "interrupted" {
		t.Errorf("%v, %v, %s", err, bad, out.String())
	}
	if s := states(found); s["tun"] != good || s["docker"] != "" {
		t.Errorf("%v", s)
	}
}

func TestJudgeTests(t *testing.T) {
	for _, tt := range []struct {
		age  int64
		gso  string
		want string
	}{{0, "ok", "ok"}, {12, "ok", "ok"}, {14, "ok", "untested"}, {-1, "ok", "untested"}, {500, "mangled", "mangled"}} {
		r := testsReply{Tests: []testReply{{GSO: tt.gso, AgeSeconds: tt.age}}}
		if r.judge(3 * time.Second); r.Tests[0].GSO != tt.want {
			t.Errorf("%s of %d s: %s, want %s", tt.gso, tt.age, r.Tests[0].GSO, tt.want)
		}
	}
}

func keysOfFindings(t *testing.T, found []finding) []string {
	t.Helper()
	text, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return keysOf(v, "")
}

func TestSettings(t *testing.T) {
	m := healthy(t)
	m.put(t, "kernel/osrelease", "6.1.0-9-cloud-amd64")
	m.put(t, "net/ipv4/conf/docker_gwbridge/forwarding", "1")
	if m.sysctl("kernel/osrelease") != "6.1.0-9-cloud-amd64" || m.sysctl("kernel/none") != "" || !m.hasLink("docker_gwbridge") || m.hasLink("eth9") {
		t.Error("settings are not read as they are")
	}
	if got := m.load("tun"); !strings.Contains(got, "no modules in /lib/modules/6.1.0-9-cloud-amd64") {
		t.Errorf("without modules: %s", got)
	}
	if err := os.MkdirAll(filepath.Join(m.root, "lib/modules/6.1.0-9-cloud-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := m.load("cls_u32 act_mirred"); !strings.HasPrefix(got, "modprobe -a cls_u32 act_mirred") {
		t.Errorf("with modules: %s", got)
	}
}

// The real machine: what tapestry needs is here, or there is a good reason.
func TestThisMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		cannot(t, "needs root to try what the daemon does")
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	code, found, text := visit(t, thisMachine(), "--api-socket", dead, "--docker-host", "unix:///nonexistent", "--vtep", "127.0.0.1", "--vxlan-port", "24789") // no port that the kernel gives to others
	if code != exitFine {
		t.Errorf("exit %d:\n%s", code, text)
	}
	justified := []string{"docker", "plugin", "daemon", "br_netfilter", "ip_forward", "buffers"} // not there in a test, or the machine's affair
	for _, f := range found {
		if f.State != good && !slices.Contains(justified, f.Check) {
			t.Errorf("%+v", f)
		}
	}
	for _, name := range []string{"outer", "inner", "tapestry0"} { // other links come and go while this runs
		if _, err := net.InterfaceByName(name); err == nil {
			t.Errorf("it has left link %s", name)
		}
	}
}
