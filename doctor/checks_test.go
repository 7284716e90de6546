package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A findingTest is a finding, and the state that it must have and words that its Seen and Remedy must contain.
type findingTest struct {
	name         string
	got          Finding
	state        string
	seen, remedy string
}

func checkFindings(t *testing.T, all []findingTest) {
	t.Helper()
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			if v.got.State != v.state || !strings.Contains(v.got.Seen, v.seen) || !strings.Contains(v.got.Remedy, v.remedy) {
				t.Errorf("got  %+v\nwant %s, %q, %q", v.got, v.state, v.seen, v.remedy)
			}
			if v.got.Check == "" || (v.got.State == OK) != (v.got.Remedy == "") {
				t.Errorf("%+v: want the name of a check, and a remedy unless it is ok", v.got)
			}
		})
	}
}

func TestCheckKernel(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("open /dev/net/tun: %w", err) }
	granted := func(receive, send int) tunnel.Sockets {
		return tunnel.Sockets{Wanted: 8 << 20, Receive: receive, Send: send}
	}
	checkFindings(t, []findingTest{
		{"tun", checkTUN(tap.TUN{Header: true, Csum: true, TSO: true, USO: true, Tunnels: true}, nil, "modprobe tun"), OK, "checksums yes, TSO yes, USO yes, UDP tunnels yes", ""},
		{"tun without USO", checkTUN(tap.TUN{Header: true, Csum: true, TSO: true}, nil, ""), OK, "USO no, UDP tunnels no", ""},
		{"tun without TSO", checkTUN(tap.TUN{Header: true, Csum: true}, nil, ""), Warn, "TSO no", "newer kernel"},
		{"tun without a header", checkTUN(tap.TUN{Csum: true, TSO: true}, nil, ""), Fail, "IFF_VNET_HDR", "newer kernel"},
		{"no node", checkTUN(tap.TUN{}, fmt.Errorf("make a tap: %w", &tap.NodeError{Wrong: "there is no /dev/net/tun", Remedy: "mknod"}), "modprobe tun"), Fail, "there is no /dev/net/tun", "mknod"},
		{"no tun", checkTUN(tap.TUN{}, &tap.NodeError{Wrong: "this kernel has no tun driver"}, "modprobe tun"), Fail, "no tun driver", "modprobe tun"},
		{"tun without a driver", checkTUN(tap.TUN{}, wrap(unix.ENODEV), "modprobe tun"), Fail, "no such device", "modprobe tun"},
		{"tun forbidden", checkTUN(tap.TUN{}, wrap(unix.EPERM), "modprobe tun"), Fail, "not permitted", "as root"},
		{"no namespace", checkTUN(tap.TUN{}, fmt.Errorf("%w: %w", tap.ErrNoNamespace, unix.EPERM), ""), Warn, "not tried", "not in a container"},
		{"veth", checkProbe("veth", "it works", nil, ""), OK, "it works", ""},
		{"no veth", checkProbe("veth", "", unix.EOPNOTSUPP, "modprobe veth"), Fail, "not supported", "modprobe veth"},
		{"trains", checkUDPOffload(tunnel.Sockets{}, nil), OK, "UDP_SEGMENT", ""},
		{"no socket", checkUDPOffload(tunnel.Sockets{}, unix.EMFILE), Fail, "too many open files", "ulimit"},
		{"no GSO", checkUDPOffload(tunnel.Sockets{GSO: unix.EINVAL, GRO: unix.EINVAL}, nil), Warn, "UDP_SEGMENT", "kernel"},
		{"no GRO", checkUDPOffload(tunnel.Sockets{GRO: unix.ENOPROTOOPT}, nil), Warn, "UDP_GRO", "kernel"},
		{"buffers", checkBuffers(granted(8<<20, 8<<20)), OK, "8192 KiB to receive", ""},
		{"short buffers", checkBuffers(granted(208<<10, 8<<20)), Warn, "208 KiB to receive, 8192 KiB to send, 8192 KiB wanted", "net.core.rmem_max=8388608"},
		{"short buffers to send", checkBuffers(granted(8<<20, 1<<20)), Warn, "1024 KiB to send", "net.core.wmem_max=8388608"},
	})
}

func TestCheckUnderlay(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	eth := func(mtu int) tunnel.Path { return tunnel.Path{Link: "eth0", MTU: mtu} }
	none := tunnel.Path{}
	inUse := fmt.Errorf("bind UDP 192.0.2.1:4789: %w", unix.EADDRINUSE)
	checkFindings(t, []findingTest{
		{"underlay", checkUnderlay(v4, eth(1500), nil, docker.Supervisor{}), OK, "192.0.2.1 by eth0, MTU 1500: room for 1450", ""},
		{"underlay, IPv6", checkUnderlay(v6, eth(1500), nil, docker.Supervisor{}), OK, "room for 1430", ""},
		{"narrow underlay", checkUnderlay(v4, eth(1300), nil, docker.Supervisor{}), Warn, "room for 1250 in a network with a VNI, IPv6 needs 1280", "ip link set eth0 mtu 1500"},
		{"no default route", checkUnderlay(netip.Addr{}, none, errors.New("there is no default route"), docker.Supervisor{}), Warn, "no default route", "--vtep ADDR"},
		{"link down", checkUnderlay(v4, eth(1500), errors.New("link eth0 is down"), docker.Supervisor{}), Fail, "192.0.2.1: link eth0 is down", "ip link set eth0 up"},
		{"no default route to an address on lo", checkUnderlay(v4, none, nil, docker.Supervisor{}), OK, "the route to each peer tells its MTU", ""},
		{"foreign address", checkUnderlay(v4, none, fmt.Errorf("%w %s", tunnel.ErrNoAddress, v4), docker.Supervisor{}), Fail, "no link of this host has the address 192.0.2.1", "--vtep"},

		{"port of the daemon", checkPort(4789, api.Status{Tunnel: "open"}, nil, "", docker.Supervisor{}), OK, "UDP 4789 is the daemon's; whether firewalls", ""},
		{"free port", checkPort(4790, api.Status{}, nil, "", docker.Supervisor{}), OK, "UDP 4790 is free; whether firewalls", ""},
		{"taken port", checkPort(4789, api.Status{Tunnel: "closed"}, inUse, "the kernel's vxlan device vx9 (VNI 9)", docker.Supervisor{}), Warn, "taken by the kernel's vxlan device vx9", "ss -ulpn sport = :4789"},
		{"taken port that is needed", checkPort(4789, api.Status{Tunnel: "down", Why: "…"}, inUse, "named (process 7)", docker.Supervisor{}), Fail, "taken by named (process 7)", "--vxlan-port"},
		{"address gone", checkPort(4789, api.Status{Tunnel: "down"}, unix.EADDRNOTAVAIL, "", docker.Supervisor{}), Fail, "assign requested address", "--vtep"},
		{"tunnel down, port free again", checkPort(4789, api.Status{Tunnel: "down", Why: "UDP port 4789 was taken"}, nil, "", docker.Supervisor{}), Fail, "UDP port 4789 was taken", "every 5 s"},

		{"br_netfilter", checkBridge("1", true, ""), OK, "cross no bridge", ""},
		{"br_netfilter off, no bridge", checkBridge("0", false, ""), OK, "Docker changes that", ""},
		{"br_netfilter off", checkBridge("0", true, ""), Warn, "reach each other", "bridge-nf-call-iptables=1"},
		{"no br_netfilter", checkBridge("", false, "modprobe br_netfilter"), OK, "Docker loads it when needed", ""},
		{"br_netfilter unloaded", checkBridge("", true, "modprobe br_netfilter"), Warn, "reach each other", "modprobe br_netfilter"},

		{"forwarding", checkForward("1", true, "nftables"), OK, "on", ""},
		{"no forwarding yet", checkForward("0", false, "iptables"), OK, "Docker turns it on", ""},
		{"no forwarding", checkForward("0", true, "nftables"), Warn, "do not get out", "ip_forward=1"},
		{"no forwarding, a Docker that does not tell", checkForward("0", false, ""), OK, "Docker turns it on", ""},
		{"no forwarding, nftables", checkForward("0", false, "nftables"), Fail, "no container starts on a network with tapestry.external=on", "ip_forward=1"},
	})
}

func TestCheckDocker(t *testing.T) {
	const at, sock = "unix:///var/run/docker.sock", "/run/docker/plugins/tapestry.sock"
	driver := []string{"NetworkDriver"}
	checkFindings(t, []findingTest{
		{"29", checkDocker(at, "29.1.2", nil), OK, "29.1.2", ""},
		{"oldest", checkDocker(at, "20.10.0-rc1", nil), OK, "20.10.0", ""},
		{"too old", checkDocker(at, "20.9.1", nil), Warn, "older", "20.10"},
		{"much too old", checkDocker(at, "1.13", nil), Warn, "older", "20.10"},
		{"newer", checkDocker(at, "31.0.0", nil), OK, "newer than those that were tested", ""},
		{"of no version", checkDocker(at, "dev", nil), Warn, `unknown version "dev"`, "docker version"},
		{"away", checkDocker(at, "", unix.ECONNREFUSED), Warn, "does not answer at " + at, "systemctl start docker"},

		{"plugin", checkPlugin(sock, driver, nil), OK, "answers", ""},
		{"no plugin", checkPlugin(sock, nil, fs.ErrNotExist), Warn, "does not exist", "systemctl start tapestry"},
		{"stale plugin", checkPlugin(sock, nil, unix.ECONNREFUSED), Fail, "stale", "systemctl restart tapestry"},
		{"another thing", checkPlugin(sock, nil, errors.New("EOF")), Fail, "does not answer as a plugin does: EOF", "ss -xlp"},
		{"another plugin", checkPlugin(sock, []string{"VolumeDriver"}, nil), Fail, "is another plugin, of VolumeDriver", "--name"},
	})
}

func TestActivate(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Implements":["NetworkDriver"]}`))
	})
	if got, err := activate(t.Context(), fake.ServeUnix(t, "p.sock", mux)); err != nil || !slices.Equal(got, []string{"NetworkDriver"}) {
		t.Errorf("a plugin implements %v, %v", got, err)
	}
	if _, err := activate(t.Context(), fake.ServeUnix(t, "x.sock", http.NotFoundHandler())); err == nil {
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
	away := fmt.Errorf("%w: start it", client.ErrNoDaemon)
	room := func(free, inodes uint64) unix.Statfs_t {
		return unix.Statfs_t{Bsize: 1000, Bavail: 1, Bfree: free / 1000, Files: 1000, Ffree: inodes}
	}
	checkFindings(t, []findingTest{
		{"whole", checkState(dir, info(fs.ModeDir|0o700), nil, 2, nil), OK, "2 networks, all records whole", ""},
		{"none yet", checkState(dir, nil, fs.ErrNotExist, 0, nil), OK, "not there yet", ""},
		{"read-only", checkState(dir, info(fs.ModeDir|0o700), unix.EROFS, 0, nil), Fail, "read-only file system", "findmnt"},
		{"a file", checkState(dir, info(0o600), nil, 0, unix.ENOTDIR), Fail, "is no directory", "move it away, or use another --state-dir"},
		{"open to others", checkState(dir, info(fs.ModeDir|0o777), nil, 0, nil), Fail, "mode 777", "chmod 700 " + dir},
		{"of another version", checkState(dir, info(fs.ModeDir|0o700), nil, 0, fmt.Errorf("state file a.json: %w", fabric.ErrVersion)), Fail, "a.json", "run the version of tapestry that wrote it"},
		{"torn, of the Swarm", checkState(dir, info(fs.ModeDir|0o700), nil, 0, errors.New("state file "+dir+"/swarm.json: not whole")), Fail, "swarm.json: not whole", "tapestry peers learn"},
		{"torn", checkState(dir, info(fs.ModeDir|0o700), nil, 0, errors.New("state file a.json: not whole")), Fail, "a.json: not whole", "mv that file"},

		{"space", checkSpace(dir, room(5e9, 10), nil), OK, "5.0 GB free", ""},
		{"little space", checkSpace(dir, room(15e6, 10), nil), Warn, "15 MB", "df -h"},
		{"no space", checkSpace(dir, room(5e5, 10), nil), Fail, "cannot be recorded", "df -h"},
		{"no inodes", checkSpace(dir, room(5e9, 0), nil), Fail, "no inode", "df -i"},
		{"space unknown", checkSpace(dir, unix.Statfs_t{}, unix.EIO), Warn, "input/output error", "findmnt"},

		{"daemon", checkDaemon(api.Status{Name: "tapestry", Version: "v1", PID: 7}, nil, "v1", dir, 1, docker.Supervisor{}), OK, "version v1, running 0s, pid 7", ""},
		{"another version", checkDaemon(api.Status{Version: "v1"}, nil, "v2", dir, 1, docker.Supervisor{}), Warn, "version v1, this is v2", "systemctl restart"},
		{"never run", checkDaemon(api.Status{}, away, "v2", dir, 0, docker.Supervisor{}), Warn, "does not run", "start it"},
		{"down", checkDaemon(api.Status{}, away, "v2", dir, 1, docker.Supervisor{}), Fail, "does not run, and 1 network on record in " + dir + " cannot be used", "start it"},
		{"hangs", checkDaemon(api.Status{}, errors.New("not in time: see its log"), "v2", dir, 1, docker.Supervisor{}), Fail, "does not answer, and 1 network on record", "see its log"},
		{"foreign", checkDaemon(api.Status{}, errors.New("is no tapestry"), "v2", dir, 0, docker.Supervisor{}), Warn, "does not answer", "is no tapestry"},
	})
}

func TestCheckDaemon(t *testing.T) {
	d := &docker.Engine{}
	wide := api.Network{ID: fake.WideID, Name: "wide", VNI: 80, MTU: 1450}
	conflict := api.Conflict{Network: fake.WideID, MAC: ether.MAC{2, 0x42}, Owner: fake.WebID, Rival: "192.0.2.2"}
	web := api.Port{Network: fake.WideID, NetworkName: "wide", Kind: "container", Container: "web", MTU: 1450}
	long, cut := web, web
	swept, unplugged, halved := web, web, web
	unplugged.MAC, unplugged.Why, halved.Why = "02:42:0a:50:01:02", tap.ErrDown.Error(), tap.ErrHostEnd.Error()
	long.MTU, cut.Why, swept.Why = 8950, "open tap: gone", tap.ErrGone.Error()
	heard := int64(3)
	peer := api.Peer{Network: fake.WideID, NetworkName: "wide", Addr: "192.0.2.2:4789", MTU: 1450, HeardSeconds: &heard}
	narrow, down, silent, stale, split := peer, peer, peer, peer, peer
	split.Fragmented = 3
	group := api.Peer{NetworkName: "wide", Addr: "239.1.1.1:4789", Group: true}
	stale.Name, stale.NameDown = "host-b", "the name server does not answer"
	narrow.MTU, silent.HeardSeconds, down.MTU, down.Why = 1350, nil, 0, "no route"
	eth := net.Interface{Name: "eth0", MTU: 1500}
	byEth := func(netip.AddrPort) net.Interface { return eth }
	status := api.Status{VTEP: "192.0.2.1", VXLANPort: 4790}
	eth.Index = 2
	by := func(i int, name string, flags net.Flags) func(netip.AddrPort) net.Interface {
		return func(netip.AddrPort) net.Interface { return net.Interface{Index: i, Name: name, Flags: flags} }
	}
	dotted := eth
	dotted.Name = "eth0.7"
	on := func(link string) func(string) string { return func(string) string { return link } }
	at := peer.Addr
	vtep := netip.MustParseAddr("192.0.2.1")
	first := func(all []Finding) Finding { return all[0] }
	test := func(verdicts ...string) (all []api.PeerTest) {
		for _, v := range verdicts {
			all = append(all, api.PeerTest{Addr: "192.0.2.2:4789", GSO: v, Why: "3 of 40", Answers: v != "no answer"})
		}
		return all
	}
	checkFindings(t, []findingTest{
		{"networks", first(checkNetworks([]api.Network{wide}, nil, d, nil)), OK, "1 network, no address claimed twice", ""},
		{"network down", first(checkNetworks([]api.Network{{Name: "wide", Down: "UDP port 4789 is taken"}}, nil, d, nil)), Fail, "wide has no tunnel: UDP port", "tapestry networks"},
		{"claimed twice", first(checkNetworks([]api.Network{wide}, []api.Conflict{conflict}, d, nil)), Warn, "is claimed by 192.0.2.2 too", "--ip-range"},

		{"ports", first(checkPorts([]api.Port{web, {Kind: "remote", Why: "its own line"}}, docker.Supervisor{})), OK, "1 container, none cut off", ""},
		{"port down", first(checkPorts([]api.Port{web, cut}, docker.Supervisor{})), Fail, "web on wide is cut off: open tap", "docker network disconnect wide web"},
		{"port whose link is down", first(checkPorts([]api.Port{web, unplugged}, docker.Supervisor{})), Warn, "web on wide gets nothing: the link is down in the container", "docker exec --privileged web ip link set eth0 up (the link that has 02:42:0a:50:01:02)"},
		{"port whose host end is down", first(checkPorts([]api.Port{web, halved}, docker.Supervisor{})), Fail, "web on wide is cut off: the link's end on this host is down", "systemctl restart tapestry"},
		{"port of a container that has ended", first(checkPorts([]api.Port{web, swept}, docker.Supervisor{})), Warn, "web on wide: the container's link is gone", "--sweep-after"},

		{"mtu", first(checkMTU([]api.Network{wide}, []api.Port{web}, []api.Peer{peer}, nil, byEth)), OK, "fits the path to 1 peer", ""},
		{"mtu of another network", first(checkMTU([]api.Network{wide}, []api.Port{{Network: fake.OtherID, Kind: "container", MTU: 9000}}, []api.Peer{peer}, nil, byEth)), OK, "fits", ""},
		{"mtu of the path", first(checkMTU([]api.Network{wide}, nil, []api.Peer{narrow}, nil, byEth)), Fail, "up to 1450 bytes, the path to 192.0.2.2:4789 takes 1350", "raise the MTU on the path, or make the network anew with -o com.docker.network.driver.mtu=1350"},
		{"mtu of the underlay", first(checkMTU([]api.Network{wide}, []api.Port{long}, []api.Peer{peer}, nil, byEth)), Fail, "up to 8950 bytes", "ip link set eth0 mtu 9000"},
		{"mtu of a black hole", first(checkMTU([]api.Network{wide}, nil, []api.Peer{peer}, []api.PeerTest{{Addr: at, Narrow: 1500}}, byEth)), Fail, "wide: datagrams of 1500 bytes do not reach 192.0.2.2:4789", "driver.mtu=SIZE"},
		{"mtu of a black hole that was measured", first(checkMTU([]api.Network{wide}, nil, []api.Peer{peer}, []api.PeerTest{{Addr: at, Narrow: 1500, Fits: 1396}}, byEth)), Fail, "1396 do, and who sends more is told so", "driver.mtu=1346"},
		{"mtu of a black hole that was measured, and nothing falls into", first(checkMTU([]api.Network{{ID: fake.WideID, MTU: 1346}}, nil, []api.Peer{peer}, []api.PeerTest{{Addr: at, Narrow: 1500, Fits: 1396}}, byEth)), OK, "fits", ""},
		{"mtu of a black hole that nothing falls into", first(checkMTU([]api.Network{{ID: fake.WideID, MTU: 1300}}, nil, []api.Peer{peer}, []api.PeerTest{{Addr: at, Narrow: 1500}}, byEth)), OK, "fits", ""},
		{"peer unreachable", first(checkPeers([]api.Peer{down}, nil, api.Status{})), Fail, "wide: 192.0.2.2:4789 is unreachable: no route", "ip route get 192.0.2.2"},
		{"mtu of a peer that is down", first(checkMTU([]api.Network{wide}, nil, []api.Peer{down}, nil, byEth)), OK, "fits", ""},

		{"peers", first(checkPeers([]api.Peer{peer}, nil, status)), OK, "1 peer, all heard", ""},
		{"peer that fragments", first(checkPeers([]api.Peer{split}, nil, status)), Warn, "wide: 3 datagrams from 192.0.2.2:4789 came in fragments", "lower the MTU of the network there"},
		{"peer down", first(checkPeers([]api.Peer{down}, nil, status)), Fail, "wide: 192.0.2.2:4789 is unreachable: no route", "tapestry peers"},
		{"peer that is not found", first(checkPeers([]api.Peer{{NetworkName: "wide", Name: "host-b", Why: "there is no such name"}}, nil, status)), Fail, "wide: host-b is named as a peer and has no address: there is no such name", "getent ahosts host-b"},
		{"peer that cannot be looked up now", first(checkPeers([]api.Peer{stale}, nil, status)), Warn, "host-b cannot be looked up, and what it was last stays the peer: the name server does not answer", "/etc/resolv.conf"},
		{"peer silent", first(checkPeers([]api.Peer{peer, silent}, test("no answer"), status)), Warn, "never heard: 192.0.2.2:4789 on wide", "tapestry peers add NET 192.0.2.1; and let UDP 4790 pass"},
		{"peer silent, and its host is not", first(checkPeers([]api.Peer{peer, silent}, test("ok"), status)), OK, "2 peers; silent so far, but the host answers: 192.0.2.2:4789 on wide", ""},
		{"group that nobody else is in", first(checkPeers([]api.Peer{group, peer}, nil, status)), OK, "1 peer, all heard", ""},

		{"test", first(checkTests(test("ok", "ok", "no answer"), "", on("eth0"))), OK, "whole at 2 peers; no tapestry answers at 192.0.2.2:4789", ""},
		{"test of nobody", first(checkTests(nil, "", on(""))), OK, "0 peers", ""},
		{"mangled", first(checkTests(test("ok", "mangled"), "", on("eth0"))), Warn, "arrive mangled at 192.0.2.2:4789, so they go one by one, slower: 3 of 40", "ethtool -K eth0 tx-udp-segmentation off"},
		{"refused", first(checkTests(test("refused"), "", on("eth0"))), Warn, "refuses segments to 192.0.2.2:4789", "ethtool -K eth0 tx on"},
		{"refused, link not known", first(checkTests(test("refused"), "", on(""))), Warn, "refuses segments to 192.0.2.2:4789", "take another kernel"},
		{"lossy", first(checkPeers([]api.Peer{{Addr: at, HeardSeconds: new(int64), Health: &api.Health{Probes: 192, Lost: 4, Echoes: 188}}}, nil, api.Status{})), Warn, "2.1 % on the way to " + at + ", 0 % on the way back", "ip -s link"},
		{"lossy back", first(checkPeers([]api.Peer{{Addr: at, HeardSeconds: new(int64), Health: &api.Health{Probes: 192, Echoes: 192, LostBack: 2}}}, nil, api.Status{})), Warn, "1 % on the way back", ""},
		{"one is lost", first(checkPeers([]api.Peer{{Addr: at, HeardSeconds: new(int64), Health: &api.Health{Probes: 60, Lost: 1, Echoes: 59}}}, nil, api.Status{})), OK, "all heard", ""},
		{"narrow", first(checkTests([]api.PeerTest{{Addr: at, GSO: "untested", Narrow: 1500}}, "", on("eth0"))), OK, "not tested where long ones are lost: 192.0.2.2:4789", ""},
		{"untested", first(checkTests(test("untested"), "", on("eth0"))), Warn, "too many segments were lost for a result: 192.0.2.2:4789", "ping"},
		{"test not finished", first(checkTests(test("ok"), "wait for the answers: deadline exceeded", on("eth0"))), Warn, "not finished: wait for", "again"},

		{"offloads", checkOffloads([]api.Offload{{Name: "csum", State: "on"}, {Name: "uso", State: "unavailable", Why: "not supported by this kernel"}}), OK, "csum on; uso unavailable", ""},
		{"no offloads yet", checkOffloads([]api.Offload{{Name: "csum", State: "unused"}}), OK, "nothing uses any yet", ""},
		{"offload refused", checkOffloads([]api.Offload{{Name: "csum", State: "on"}, {Name: "udp_gso", State: "off", Why: "EIO", Users: 2, Off: 1}}), Warn, "csum on; udp_gso off at 1 of 2 (EIO", "tapestry peers"},
		{"flag lost", checkOffloads([]api.Offload{{Name: "csum", State: "on"}, {Name: "remote_checksum", State: "off", Why: "lost", Users: 2, Off: 1}}), Warn, "remote_checksum off at 1 of 2 (lost): checksums are computed twice there", "reserved bits"},

		{"received", checkReceived(api.Status{KernelDropped: map[string]uint64{"bad_checksum": 0}, RxDropped: map[string]uint64{"no_peer": 7}}, "eth0"), OK, "no datagram was lost", ""},
		{"received with wrong checksums", checkReceived(api.Status{VXLANPort: 4790, KernelDropped: map[string]uint64{"bad_checksum": 3}}, "eth0"), Warn, "dropped 3 datagrams for a wrong checksum", "tcpdump -ni eth0 -vv udp port 4790"},
		{"received without memory", checkReceived(api.Status{KernelDropped: map[string]uint64{"no_memory": 1}}, ""), Warn, "dropped 1 datagram since", "net.ipv4.udp_mem"},
		{"received too fast", checkReceived(api.Status{RxDropped: map[string]uint64{"overflow": 2}}, ""), Warn, "2 datagrams came faster", "buffers"},

		{"rp_filter", checkReversePath(true, eth, vtep, []api.Peer{peer}, by(2, "eth0", 0), docker.Supervisor{}), OK, "lets in", ""},
		{"rp_filter, another link", checkReversePath(true, dotted, vtep, []api.Peer{peer, peer}, by(3, "eth1", 0), docker.Supervisor{}), Warn, "the route to 192.0.2.2:4789 leaves by another link", "net/ipv4/conf/eth0.7/rp_filter=2"},
		{"rp_filter, a group", checkReversePath(true, eth, vtep, []api.Peer{group}, by(3, "eth1", 0), docker.Supervisor{}), OK, "lets in", ""},
		{"rp_filter, the address on lo", checkReversePath(true, net.Interface{Index: 1, Name: "lo", Flags: net.FlagLoopback}, vtep, []api.Peer{peer}, by(3, "eth1", 0), docker.Supervisor{}), OK, "lets in", ""},
		{"rp_filter, from an address on lo", checkReversePath(true, eth, vtep, []api.Peer{peer}, by(1, "lo", net.FlagLoopback), docker.Supervisor{}), OK, "lets in", ""},
		{"rp_filter, loose", checkReversePath(false, eth, vtep, []api.Peer{peer}, by(3, "eth1", 0), docker.Supervisor{}), OK, "lets in", ""},
		{"rp_filter, no route", checkReversePath(true, eth, vtep, []api.Peer{peer}, by(0, "", 0), docker.Supervisor{}), OK, "lets in", ""},
	})
}

func TestJudgeTests(t *testing.T) {
	for _, tt := range []struct {
		age  int64
		gso  string
		want string
	}{{0, "ok", "ok"}, {12, "ok", "ok"}, {14, "ok", "untested"}, {-1, "ok", "untested"}, {500, "mangled", "mangled"}} {
		r := api.PeerTests{Tests: []api.PeerTest{{GSO: tt.gso, AgeSeconds: tt.age}}}
		if discardStale(&r, 3*time.Second); r.Tests[0].GSO != tt.want {
			t.Errorf("%s of %d s: %s, want %s", tt.gso, tt.age, r.Tests[0].GSO, tt.want)
		}
	}
}

func TestSettings(t *testing.T) {
	m := Machine{Root: t.TempDir()}
	for name, text := range map[string]string{"kernel/osrelease": "6.1.0-9-cloud-amd64\n", "net/ipv4/conf/docker_gwbridge/forwarding": "1\n"} {
		path := filepath.Join(m.Root, "proc/sys", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if m.sysctl("kernel/osrelease") != "6.1.0-9-cloud-amd64" || m.sysctl("kernel/none") != "" || !m.hasLink("docker_gwbridge") || m.hasLink("eth9") {
		t.Error("settings are not read as they are")
	}
	if got := m.moduleRemedy("tun"); !strings.Contains(got, "no modules in /lib/modules/6.1.0-9-cloud-amd64") {
		t.Errorf("without modules: %s", got)
	}
	if err := os.MkdirAll(filepath.Join(m.Root, "lib/modules/6.1.0-9-cloud-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := m.moduleRemedy("cls_u32 act_mirred"); !strings.HasPrefix(got, "modprobe -a cls_u32 act_mirred") {
		t.Errorf("with modules: %s", got)
	}
}
