package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
)

// traceHost has containers on two networks, remembers what it was asked, and gives one answer.
type traceHost struct {
	*fake.Fabric
	asked  []fabric.TraceRequest
	answer fabric.TraceView
	err    error
}

const (
	dbToo  = "db22666666666666666666666666666666666666666666666666666666666666"
	webToo = "9b1e777777777777777777777777777777777777777777777777777777777777"
	bareID = "ba5e888888888888888888888888888888888888888888888888888888888888"
)

func (h *traceHost) Ports(network string) (all []fabric.PortView) {
	for _, p := range []struct {
		network, id string
		last        byte
		addrs       string
	}{
		{fake.WideID, fake.WebID, 2, "10.80.1.2/16 fd80::2/64"}, {fake.WideID, fake.DbID, 3, "10.80.1.3/16 fd80::3/64"}, {fake.WideID, bareID, 4, ""},
		{fake.LocalID, webToo, 5, "10.77.0.2/24"}, {fake.LocalID, dbToo, 6, "10.77.0.3/24"},
	} {
		if network != "" && network != p.network {
			continue
		}
		v := fabric.PortView{Network: p.network, Kind: "container", Name: p.id, MAC: ether.MAC{2, 0, 0, 0, 0, p.last}, MTU: 1450}
		for _, a := range strings.Fields(p.addrs) {
			v.Addrs = append(v.Addrs, netip.MustParsePrefix(a))
		}
		all = append(all, v)
	}
	return append(all, fabric.PortView{Network: fake.WideID, Kind: "remote", Name: "192.0.2.2"})
}

func (h *traceHost) Trace(_ context.Context, r fabric.TraceRequest) (fabric.TraceView, error) {
	h.asked = append(h.asked, r)
	v := h.answer
	v.Network, v.In.Name, v.Bytes = r.Network, r.Port, len(r.Frame)
	if r.Inject {
		v.Injected = v.Verdict
	}
	return v, h.err
}

// forwarded is the answer for a frame that goes from web to db.
func forwarded() fabric.TraceView {
	return fabric.TraceView{VNI: 80, In: fabric.TracePort{Kind: "container", Link: "tpc9b1d", MTU: 1450}, Verdict: "forwarded",
		Steps: []fabric.TraceStep{{Check: "offload", Found: "none"}, {Check: "port", Found: "attached"}, {Check: "fault", Found: "none"},
			{Check: "source", Found: "new", MAC: ether.MAC{2, 0, 0, 0, 0, 2}, Evict: fabric.EntryView{Network: fake.WideID, MAC: ether.MAC{2, 0, 0, 0, 0, 9}, Port: fake.WebID, Age: 200 * time.Second}},
			{Check: "destination", Found: "learned", MAC: ether.MAC{2, 0, 0, 0, 0, 3}, Port: fake.DbID, Age: 12 * time.Second},
			{Check: "hairpin", Found: "no"}, {Check: "horizon", Found: "no"}, {Check: "length", Found: "fits", Limit: 1468}},
		Egress: []fabric.TraceEgress{{TracePort: fabric.TracePort{Name: fake.DbID, Kind: "container", Link: "tpcdb11", MTU: 1450, GSO: true}, Verdict: "forwarded", Limit: 1468}}}
}

// traced runs trace against h and a Docker that has both networks.
func traced(t *testing.T, h *traceHost, args ...string) result {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]docker.Network{{ID: fake.WideID, Name: "wide"}, {ID: fake.LocalID, Name: "mynet"}})
	})
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		ids := map[string]map[string]string{fake.WideID: {fake.WebID: "web", fake.DbID: "db", bareID: "bare"}, fake.LocalID: {webToo: "cache", dbToo: "db"}}[r.PathValue("id")]
		var members []string
		for id, name := range ids {
			members = append(members, fmt.Sprintf(`"c%s":{"Name":%q,"EndpointID":%q}`, id, name, id))
		}
		_, _ = fmt.Fprintf(w, `{"Id":%q,"Containers":{%s}}`, r.PathValue("id"), strings.Join(members, ","))
	})
	a := &daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel"}
	return tapestry(t, append(append([]string{"trace"}, args...), "--api-socket", fake.ServeUnix(t, "api.sock", a.Handler()), "--docker-host", "unix://"+fake.ServeUnix(t, "docker.sock", mux))...)
}

func TestTraceText(t *testing.T) {
	h := &traceHost{Fabric: fake.NewFabric(), answer: forwarded()}
	r := traced(t, h, "web", "db", "--tcp", "5432", "--inject")
	want := `
frame        TCP SYN 10.80.1.2:50000 → 10.80.1.3:5432, 54 bytes, from web to db on wide
offload      54 bytes, its checksum is complete
port         web is up (link tpc9b1d, MTU 1450)
fault        none
source       02:00:00:00:00:02 is new: it is learned; the table is full, so that 02:00:00:00:00:09 at web is forgotten
destination  02:00:00:00:00:03 was learned at db, last seen 12s ago
hairpin      no: it leaves by another port than it came by
horizon      no: it does not go from one remote host to another
length       54 bytes fit, the path takes 1468
egress       db: it leaves (link tpcdb11, MTU 1450)
injected     the frame was sent, and the switch's verdict was: forwarded
verdict      forwarded to db`
	if r.code != exit.OK || trimmed(r.out) != trimmed(want) {
		t.Errorf("exit %d, %s, got\n%s\nwant\n%s", r.code, r.stderr, r.out, want)
	}
	if len(h.asked) != 1 || !h.asked[0].Inject || h.asked[0].Network != fake.WideID || h.asked[0].Port != fake.WebID || h.asked[0].Off != (ether.Offload{}) {
		t.Errorf("asked was %+v", h.asked)
	}

	remote := fabric.TracePort{Name: "192.0.2.2", Kind: "remote", MTU: 1450, Addr: netip.MustParseAddrPort("192.0.2.2:4789"), PathMTU: 1500, Overhead: 50, GSOWhy: "EIO", RemoteSum: true, Health: &fabric.Health{Sent: fabric.Ways{There: 192}, Lost: fabric.Ways{There: 3}}, Faults: "loss 2%"}
	lost := remote
	lost.Down = "link eth0 is down"
	sparse := remote
	sparse.Sparse = true
	for _, tc := range []struct {
		name   string
		Answer fabric.TraceView
		code   int
		says   []string
	}{
		{"too long", fabric.TraceView{VNI: 80, Verdict: "mtu", Drop: true, Down: "no route", Steps: []fabric.TraceStep{{Check: "length", Found: "long", Drop: true, Limit: 40}},
			Egress: []fabric.TraceEgress{{TracePort: remote, Verdict: "mtu", Limit: 40}}}, exit.Failure,
			[]string{"length       42 bytes are too long, the path takes 40", "egress       192.0.2.2: too long, it takes 40 bytes (VXLAN to 192.0.2.2:4789, MTU 1450, path MTU 1500 less 50, VNI 80, not many datagrams in one send: EIO, checksums are completed there, the path lost 1.6 % of datagrams in the last minute, this port has faults: loss 2%)",
				"tunnel       down: no route", "verdict      dropped (mtu): too long for its path", "the frame would be dropped: mtu"}},
		{"flooded", fabric.TraceView{Verdict: "flooded", Steps: []fabric.TraceStep{{Check: "flood", Found: "some"}},
			Egress: []fabric.TraceEgress{{TracePort: remote, Verdict: "forwarded"}, {TracePort: fabric.TracePort{Name: fake.DbID}, Verdict: "forwarded"}, {TracePort: fabric.TracePort{Name: bareID}, Verdict: "horizon"}}}, exit.OK,
			[]string{"flood        to 2 ports", "egress       bare: not from one remote host to another\n", "verdict      flooded to 192.0.2.2, db\n"}},
		{"to a group", fabric.TraceView{Verdict: "flooded", Steps: []fabric.TraceStep{{Check: "source", Found: "moved", Port: "239.1.1.1", MAC: ether.MAC{2, 0x42, 10, 80, 0, 7}}},
			Egress: []fabric.TraceEgress{{TracePort: fabric.TracePort{Name: "239.1.1.1", Kind: "remote", MTU: 1450, Addr: netip.MustParseAddrPort("239.1.1.1:4789"), GSOWhy: "x"}, Verdict: "forwarded"}}}, exit.OK,
			[]string{"02:42:0a:50:00:07 moves here from group 239.1.1.1, where", "egress       group 239.1.1.1: it leaves (VXLAN to 239.1.1.1:4789", "verdict      flooded to group 239.1.1.1\n"}},
		{"flooded to a node that has left", fabric.TraceView{Verdict: "flooded", Egress: []fabric.TraceEgress{{TracePort: sparse, Verdict: "forwarded"}}}, exit.OK,
			[]string{"a few times a second at most: Docker says that this host has left the Swarm, and it is silent, this port"}},
		{"unreachable", fabric.TraceView{VNI: 80, Verdict: "forwarded", Egress: []fabric.TraceEgress{{TracePort: lost, Verdict: "forwarded"}}}, exit.Failure,
			[]string{"egress       192.0.2.2: it is lost, the host is unreachable: link eth0 is down (VXLAN to", "verdict      forwarded to 192.0.2.2, unreachable: link eth0 is down. `tapestry doctor`",
				"the frame would be lost, the host is unreachable: link eth0 is down"}},
		{"flooded, one unreachable", fabric.TraceView{Verdict: "flooded",
			Egress: []fabric.TraceEgress{{TracePort: lost, Verdict: "forwarded"}, {TracePort: fabric.TracePort{Name: fake.DbID}, Verdict: "forwarded"}}}, exit.OK,
			[]string{"192.0.2.2: it is lost, the host is unreachable", "verdict      flooded to db; unreachable: 192.0.2.2\n"}},
		{"nobody", fabric.TraceView{Verdict: "flooded", Steps: []fabric.TraceStep{{Check: "flood", Found: "nobody"}}}, exit.Failure,
			[]string{"verdict      flooded, but nobody gets it: no other port is up", "would reach nobody"}},
		{"down owner", fabric.TraceView{Verdict: "flooded", Steps: []fabric.TraceStep{{Check: "destination", Found: "unknown", Port: fake.DbID, Why: "bad state"}},
			Egress: []fabric.TraceEgress{{TracePort: remote, Verdict: "forwarded"}}}, exit.Failure,
			[]string{"is not known: to all ports; db has it and is down: bad state", "flooded, but its destination db is down"}},
		{"down", fabric.TraceView{Verdict: "detached", Drop: true, Steps: []fabric.TraceStep{{Check: "port", Found: "down", Drop: true, Why: "bad state"}}}, exit.Failure,
			[]string{"port         web is down: bad state", "dropped (detached)"}},
		{"link down", fabric.TraceView{Verdict: "down", Drop: true, Steps: []fabric.TraceStep{{Check: "link", Found: "down", Drop: true}},
			Egress: []fabric.TraceEgress{{TracePort: fabric.TracePort{Name: fake.DbID, Kind: "container", Link: "tpcdb11", MTU: 1450, Down: "the link is down in the container", GSO: true}, Verdict: "down", Limit: 1468}}}, exit.Failure,
			[]string{"link         the link that it would leave by is down\n", "egress       db: not there: the link is down in the container (link tpcdb11, MTU 1450)\n",
				"verdict      dropped (down): the link that it would leave by is down. `tapestry doctor`", "the frame would be dropped: down"}},
		{"flooded, all down", fabric.TraceView{Verdict: "down", Drop: true, Steps: []fabric.TraceStep{{Check: "flood", Found: "down", Drop: true}}}, exit.Failure,
			[]string{"flood        each port that it may leave by is down\n"}},
		{"from a link that is down", fabric.TraceView{Verdict: "forwarded", In: fabric.TracePort{Kind: "container", Down: "the link is down in the container"},
			Steps: []fabric.TraceStep{{Check: "port", Found: "attached"}}, Egress: []fabric.TraceEgress{{TracePort: fabric.TracePort{Name: fake.DbID, Kind: "container"}, Verdict: "forwarded"}}}, exit.OK,
			[]string{"port         nothing comes from web now: the link is down in the container\n", "verdict      forwarded to db\n"}},
		{"words of a later version", fabric.TraceView{Verdict: "policy", Drop: true, Steps: []fabric.TraceStep{{Check: "policy", Found: "refused", Drop: true}}}, exit.Failure,
			[]string{"policy       refused", "verdict      dropped: policy"}},
		{"faults", fabric.TraceView{Verdict: "fault", Drop: true, Steps: []fabric.TraceStep{{Check: "fault", Found: "loss", Drop: true, Why: "loss 2%"}}}, exit.Failure,
			[]string{"fault        loss, but this port has faults: loss 2%", "dropped (fault): lost on purpose, by tapestry fault"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := traced(t, &traceHost{Fabric: fake.NewFabric(), answer: tc.Answer}, "web", "db")
			if r.code != tc.code {
				t.Errorf("exit %d, want %d: %s", r.code, tc.code, r.stderr)
			}
			for _, want := range tc.says {
				if !strings.Contains(r.out+r.stderr, want) {
					t.Errorf("no %q in\n%s%s", want, r.out, r.stderr)
				}
			}
		})
	}
}

// The frame that each set of arguments makes.
func TestTraceFrames(t *testing.T) {
	for _, tc := range []struct {
		args string
		port string
		is   string // the frame, as gopacket reads it
		says string
	}{
		{"web db", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:03 10.80.1.2 10.80.1.3 ICMPv4", "ICMP echo request 10.80.1.2 → 10.80.1.3, 42 bytes, from web to db on wide"},
		{"cache db --udp 53 --sport 1000", webToo, "02:00:00:00:00:05 02:00:00:00:00:06 10.77.0.2 10.77.0.3 UDP", "UDP 10.77.0.2:1000 → 10.77.0.3:53, 42 bytes, from cache to db on mynet"},
		{"db cache", dbToo, "02:00:00:00:00:06 02:00:00:00:00:05 10.77.0.3 10.77.0.2 ICMPv4", "from db to cache on mynet"},
		{"9b1d 5a5a --tcp 80", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:03 10.80.1.2 10.80.1.3 TCP", "TCP SYN"},
		{"web fd80::3 --tcp 80", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:03 fd80::2 fd80::3 TCP", "TCP SYN [fd80::2]:50000 → [fd80::3]:80"},
		{"web db --arp", fake.WebID, "02:00:00:00:00:02 ff:ff:ff:ff:ff:ff ARP", "ARP, who has 10.80.1.3? tell 10.80.1.2"},
		{"web 10.80.9.9 --tcp 80", fake.WebID, "02:00:00:00:00:02 ff:ff:ff:ff:ff:ff ARP", "note         No container of this host has 10.80.9.9. Before anything else web would ask who has it, by ARP, of all stations"},
		{"web fd80::9:abcd", fake.WebID, "02:00:00:00:00:02 33:33:ff:09:ab:cd fd80::2 ff02::1:ff09:abcd ICMPv6", "neighbour solicitation, who has fd80::9:abcd? tell fd80::2"},
		{"web 10.80.255.255 --udp 5", fake.WebID, "02:00:00:00:00:02 ff:ff:ff:ff:ff:ff 10.80.1.2 10.80.255.255 UDP", "UDP"},
		{"web 224.0.0.251 --udp 5353", fake.WebID, "02:00:00:00:00:02 01:00:5e:00:00:fb 10.80.1.2 224.0.0.251 UDP", "UDP"},
		{"web 02:00:00:00:00:03", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:03 10.80.1.2 10.80.1.3 ICMPv4", "from web to db"},
		{"web 02:00:00:00:09:09 --size 46", fake.WebID, "02:00:00:00:00:02 02:00:00:00:09:09", "note         No IP address is known that both ends could use"},
		{"web bare", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:04", "02:00:00:00:00:02 → 02:00:00:00:00:04, 14 bytes, from web to bare on wide"},
		{"db web --network 80", fake.DbID, "02:00:00:00:00:03 02:00:00:00:00:02 10.80.1.3 10.80.1.2 ICMPv4", "on wide"},
		{"web web", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:02 10.80.1.2 10.80.1.2 ICMPv4", "own address"},
		{"peer:192.0.2.2 web", "192.0.2.2", "02:42:0a:50:02:09 02:00:00:00:00:02",
			"note         It comes from the address that was last seen behind 192.0.2.2."},
		{"web db --size 1500", fake.WebID, "02:00:00:00:00:02 02:00:00:00:00:03 10.80.1.2 10.80.1.3 ICMPv4", "note         The MTU of web is 1450"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			h := &traceHost{Fabric: fake.NewFabric(), answer: forwarded()}
			r := traced(t, h, strings.Fields(tc.args)...)
			if r.code != exit.OK || !strings.Contains(r.out, tc.says) || len(h.asked) != 1 {
				t.Fatalf("exit %d, %s, want %q in\n%s", r.code, r.stderr, tc.says, r.out)
			}
			read := gopacket.NewPacket(h.asked[0].Frame, layers.LayerTypeEthernet, gopacket.Default)
			eth := read.LinkLayer().LinkFlow()
			words := []string{eth.Src().String(), eth.Dst().String()}
			if ip := read.NetworkLayer(); ip != nil {
				words = append(words, ip.NetworkFlow().Src().String(), ip.NetworkFlow().Dst().String())
			}
			for _, l := range []gopacket.LayerType{layers.LayerTypeARP, layers.LayerTypeTCP, layers.LayerTypeUDP, layers.LayerTypeICMPv4, layers.LayerTypeICMPv6} {
				if read.Layer(l) != nil {
					words = append(words, l.String())
				}
			}
			if got := strings.Join(words, " "); got != tc.is || h.asked[0].Port != tc.port {
				t.Errorf("from %.4s the frame is %s, want %.4s, %s", h.asked[0].Port, got, tc.port, tc.is)
			}
		})
	}
}

func TestTraceRefuses(t *testing.T) {
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"wbe db", exit.NoTarget, `no container "wbe", did you mean web?`},
		{"web postgres", exit.NoTarget, `no container "postgres", there are: bare, cache, db, web`},
		{"web", exit.Usage, "too few arguments"},
		{"9b1 db", exit.Usage, `"9b1" can be ` + fake.WebID + " (web) or " + webToo + " (cache)"},
		{"db 02:00:00:00:00:77", exit.Usage, "db is on several networks, choose one: --network mynet or --network wide"},
		{"db db", exit.Usage, "--network mynet or --network wide"},
		{"web cache", exit.Failure, "web and cache share no network of tapestry's: web is on wide, cache on mynet"},
		{"web db --network mynet", exit.NoTarget, `no container "web"`},
		{"peer:192.0.2.3 web", exit.NoTarget, `no container "peer:192.0.2.3", did you mean peer:192.0.2.2?`},
		{"192.0.2.2 web", exit.NoTarget, `no container "192.0.2.2", did you mean peer:192.0.2.2?`},
		{"web peer:192.0.2.2", exit.NoTarget, `no container "peer:192.0.2.2"`},
		{"peer:192.0.2.2 web --tcp 80", exit.Usage, "--tcp needs IP addresses"},
		{"web db --network mynt", exit.NoTarget, `did you mean mynet?`},
		{"web 8.8.8.8", exit.Failure, "8.8.8.8 is in no subnet of web's (10.80.0.0/16, fd80::/64). tapestry is layer 2: web would send such a packet to the MAC address of its gateway"},
		{"bare 10.80.1.3", exit.Failure, "tapestry knows no IPv4 address of bare on wide: trace it to a MAC address"},
		{"bare 10.80.9.9", exit.Failure, "tapestry knows no IP address of bare"},
		{"cache fd80::3", exit.Failure, "is in no subnet of cache's"},
		{"web bare --tcp 80", exit.Usage, "--tcp needs IP addresses"},
		{"web db --tcp 80 --udp 53", exit.Usage, "--tcp and --udp are two frames"},
		{"web db --arp --size 99", exit.Usage, "--arp has a size of its own"},
		{"web db --tcp 0", exit.Usage, `--tcp "0": want a port from 1 to 65535`},
		{"web db --size 65536", exit.Usage, `--size "65536": want a size from 1 to 65535 bytes`},
		{"web db --size 20", exit.Usage, "--size 20: want 28 to 65535 bytes"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			h := &traceHost{Fabric: fake.NewFabric()}
			r := traced(t, h, strings.Fields(tc.args)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.says) || strings.Count(r.stderr, "\n") != 1 || len(h.asked) != 0 {
				t.Errorf("exit %d, want %d; %q, want %q", r.code, tc.code, r.stderr, tc.says)
			}
		})
	}
}

// Every key that trace prints is documented, and every documented key is printed.
func TestTraceJSON(t *testing.T) {
	r := traced(t, &traceHost{Fabric: fake.NewFabric(), answer: forwarded()}, "web", "db", "--json", "--size", "1500")
	var v any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exit.OK {
		t.Fatalf("exit %d, %v, %s", r.code, err, r.stderr)
	}
	want := slices.Sorted(slices.Values(fake.DocumentedKeys(t)["trace"]))
	if got := fake.JSONKeys(v, ""); !slices.Equal(got, want) {
		t.Errorf("trace --json has\n%v\ndocs/json.md says\n%v", got, want)
	}
	var reply api.Trace
	if err := json.Unmarshal([]byte(r.out), &reply); err != nil || reply.NetworkName != "wide" || reply.In.Container != "web" ||
		reply.Egress[0].Container != "db" || reply.Steps[4].Container != "db" || len(reply.Request.Frame) != 1514 || len(reply.Notes) != 1 {
		t.Errorf("%v: %+v", err, reply)
	}
}

func TestTraceAPI(t *testing.T) {
	body := func(frame []byte, rest string) string {
		return `{"network": "n", "port": "p", "frame": "` + base64.StdEncoding.EncodeToString(frame) + `"` + rest + `}`
	}
	small := make([]byte, 60)
	for _, tc := range []struct {
		name, body string
		err        error
		status     int
		says       string
	}{
		{"no body", "", nil, http.StatusBadRequest, "read the request"},
		{"no base64", `{"frame": "§"}`, nil, http.StatusBadRequest, "read the request"},
		{"no frame", `{"network": "n", "port": "p"}`, nil, http.StatusBadRequest, "frame has 0 bytes, want 1 to 65557"},
		{"longest", body(make([]byte, ether.MaxFrame), ""), nil, http.StatusOK, `"verdict":"forwarded"`},
		{"too long", body(make([]byte, ether.MaxFrame+1), ""), nil, http.StatusBadRequest, "frame has 65558 bytes"},
		{"much too long", body(make([]byte, 1<<20), ""), nil, http.StatusBadRequest, "too large"},
		{"unknown kind", body(small, `, "offload": {"kind": "tso"}`), nil, http.StatusBadRequest, `want none, tcp4, tcp6, udp, or tunnel_`},
		{"unknown network", body(small, ""), fabric.ErrNoNetwork, http.StatusNotFound, "no such network"},
		{"unknown endpoint", body(small, ""), fabric.ErrNoEndpoint, http.StatusNotFound, "no such endpoint"},
		{"unknown peer", body(small, ""), fabric.ErrNoPeer, http.StatusNotFound, "no such peer"},
		{"busy", body(small, ""), errors.New("busy"), http.StatusConflict, "busy"},
		{"offload", body(small, `, "inject": true, "offload": {"kind": "tcp6", "segment": 1400, "needs_sum": true, "sum_start": 54, "sum_offset": 16}`), nil, http.StatusOK, `"injected":"forwarded"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &traceHost{Fabric: fake.NewFabric(), answer: forwarded(), err: tc.err}
			a := (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler)}).Handler()
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/trace", bytes.NewReader([]byte(tc.body))))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
				t.Errorf("HTTP %d, want %d and %q: %s", w.Code, tc.status, tc.says, w.Body)
			}
			if tc.name != "offload" {
				return
			}
			if want := (ether.Offload{Kind: ether.TCP6, Segment: 1400, PartialChecksum: true, ChecksumStart: 54, ChecksumOffset: 16}); len(h.asked) != 1 || h.asked[0].Off != want || !h.asked[0].Inject {
				t.Errorf("asked was %+v", h.asked)
			}
		})
	}
}
