package trace

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
)

// otherHost is a host with web and a peer on wide, which hosts share as blue.
type otherHost struct{ *fake.Fabric }

func (h otherHost) Ports(network string) []fabric.PortView {
	return []fabric.PortView{{Network: fake.WideID, Kind: "remote", Name: "192.0.2.2:4789", MTU: 1450},
		{Network: fake.WideID, Kind: "container", Name: fake.WebID, MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, MTU: 1450,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16"), netip.MustParsePrefix("fd80::2/64")}}}
}

// Containers on other hosts are ends of a trace, by name and by address: with the MAC and the place that the cluster tells.
func TestTraceOthers(t *testing.T) {
	h := otherHost{fake.NewFabric()}
	h.Keys = map[string]string{fake.WideID: "blue", fake.LocalID: "green"}
	d, e := fake.NewClusterDaemon(t, h), fake.NewLiveDocker(t)
	e.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	name := func(key, name, host, vtep, mac string, gone bool, addrs ...string) api.Name {
		n := api.Name{Key: key, Name: name, Host: host, VTEP: vtep, MAC: mac, Gone: gone}
		for _, a := range addrs {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
		}
		return n
	}
	d.Set(name("blue", "db", "a", "192.0.2.2", "02:42:0a:50:02:03", false, "10.80.2.3", "fd80::23"), name("blue", "web", "a", "192.0.2.2", "02:42:0a:50:02:02", false, "10.80.2.2"),
		name("blue", "six", "a", "192.0.2.2", "", false, "fd80::66"), name("blue", "dead", "c", "192.0.2.2", "02:42:0a:50:04:02", true, "10.80.4.2"),
		name("blue", "lone", "d", "192.0.2.9", "02:42:0a:50:05:02", false, "10.80.5.2"), name("green", "far", "a", "192.0.2.2", "02:42:0a:51:00:02", false, "10.81.0.2"),
		name("blue", "twin", "a", "192.0.2.2", "02:42:0a:50:02:04", false, "10.80.2.4"), name("blue", "twin", "c", "192.0.2.9", "02:42:0a:50:03:04", false, "10.80.3.4"))
	d.SetPlace("10.80.2.9", api.Place{Host: "a", VTEP: "192.0.2.2", MAC: "02:42:0a:50:02:09"})
	for _, c := range []struct{ from, to, about, note string }{
		{"web", "db", "ICMP echo request 10.80.1.2 → 10.80.2.3, 42 bytes, from web to db on wide", "db is on host a (192.0.2.2), as the cluster says."},
		{"web", "db.blue@a", "ICMP echo request 10.80.1.2 → 10.80.2.3, 42 bytes, from web to db on wide", "db is on host a"},
		{"web", "web@a", "ICMP echo request 10.80.1.2 → 10.80.2.2, 42 bytes, from web to web@a on wide", "web@a is on host a (192.0.2.2)"},
		{"web", "10.80.2.3", "10.80.1.2 → 10.80.2.3, 42 bytes, from web to db on wide", "db is on host a (192.0.2.2), as the cluster says."},
		{"web", "fd80::23", "fd80::2 → fd80::23, 62 bytes, from web to db on wide", "db is on host a"},
		{"web", "10.80.2.9", "10.80.1.2 → 10.80.2.9, 42 bytes, from web to 10.80.2.9 on wide", "10.80.2.9 is on host a (192.0.2.2), as the cluster says."},
		{"web", "10.80.2.99", "ARP, who has 10.80.2.99? tell 10.80.1.2, 42 bytes, from web on wide", "No container of this host has 10.80.2.99. Before"},
		{"web", "six", "neighbour solicitation, who has fd80::66? tell fd80::2", "The cluster does not tell which MAC address has fd80::66. Before anything else web would ask"},
		{"web", "dead", "10.80.1.2 → 10.80.4.2", "dead is on host c (192.0.2.2), which is gone, as the cluster says: nothing is sent to it, unless it still answers"},
		{"web", "lone", "10.80.1.2 → 10.80.5.2", "lone is on host d (192.0.2.9), as the cluster says. That is no peer of wide here, so nothing goes there"},
		{"db", "web", "ICMP echo request 10.80.2.3 → 10.80.1.2, 42 bytes, from db to web on wide", "db is on host a (192.0.2.2), as the cluster says: its frames come in by that peer."},
		{"db", "web@a", "10.80.2.3 → 10.80.2.2, 42 bytes, from db to web@a on wide", ""},
		{"lone", "web", "lone is on host d (192.0.2.9), which is no peer of wide here: see `tapestry peers`", ""},
		{"six", "web", "the cluster does not tell which MAC address six has: trace from peer:192.0.2.2", ""},
		{"web", "far", "web and far share no network of tapestry's: web is on wide, far on mynet", ""},
		{"web", "twin", "twin is the name of a container on several hosts, name one: twin@a or twin@c", ""},
		{"web", "lnoe", "on another host there is lone", ""},
	} {
		var q Query
		_, request, err := q.Prepare(t.Context(), &client.Client{Socket: d.Socket, DockerHost: e.At}, "", c.from, c.to)
		notes := strings.Join(q.Notes, " ")
		if err != nil {
			if !strings.Contains(err.Error(), c.about) || exit.Code(err) == exit.OK {
				t.Errorf("%s to %s: %v", c.from, c.to, err)
			}
			continue
		}
		if !strings.Contains(q.About, c.about) || !strings.Contains(notes, c.note) || strings.Contains(notes, "in no subnet") {
			t.Errorf("%s to %s: %s\n%s", c.from, c.to, q.About, notes)
		}
		if c.from == "db" && (request.Port != "192.0.2.2" || !strings.HasPrefix(string(request.Frame[6:]), "\x02\x42\x0a\x50\x02\x03")) ||
			c.to == "db" && (request.Port != fake.WebID || !strings.HasPrefix(string(request.Frame), "\x02\x42\x0a\x50\x02\x03")) {
			t.Errorf("%s to %s: %x from %s", c.from, c.to, request.Frame, request.Port)
		}
	}
}
