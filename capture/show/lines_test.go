package show

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/packets"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A frame whose source address belongs to another container is shown with its ingress port, in the line and in the summary, live
// and from a file. For a frame from a remote host that is normal, and not shown.
func TestWatchNamesTheSender(t *testing.T) {
	ports := []string{"web", "db", "192.0.2.2"}
	n := &callers{addrs: map[netip.Addr]string{netip.MustParseAddr("10.80.1.2"): "web", netip.MustParseAddr("10.80.1.3"): "db"},
		containers: map[string]string{"web": "web", "db": "db"}}
	var file FileNames
	file.Add(pcapng.Names{{Addr: netip.MustParseAddr("10.80.1.2"), Name: "web"}, {Addr: netip.MustParseAddr("10.80.1.3"), Name: "db"}})
	for _, who := range []Resolver{n, &file} {
		for _, c := range []struct {
			in   int
			from byte // 10.80.1.from is the source
			v    vswitch.Verdict
			want string // "sent by"; "": nothing is said
		}{
			{0, 2, vswitch.Forwarded, ""}, {1, 2, vswitch.Spoofed, "db"}, {0, 2, vswitch.Spoofed, ""}, {1, 99, vswitch.Spoofed, "db"},
			{1, 2, vswitch.Forwarded, "db"}, {1, 99, vswitch.Forwarded, ""}, {2, 2, vswitch.Forwarded, ""}, {2, 2, vswitch.OwnAddress, "192.0.2.2"},
		} {
			var out bytes.Buffer
			l := &LinePrinter{Out: &out, Labels: Labels{Resolver: who}}
			for i, name := range ports {
				kind, addr := "container", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 80, 1, byte(2 + i)}), 16)
				if i == 2 {
					kind, addr = "remote", netip.MustParsePrefix("192.0.2.2/32")
				}
				l.Labels.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet, Name: name, Addrs: []netip.Prefix{addr}, Description: fmt.Sprintf("port=%d kind=%s network=%s vni=80", i+1, kind, fake.WideID)})
			}
			data := packets.Packet{UDP: true, Src: netip.AddrFrom4([4]byte{10, 80, 1, c.from}), Dst: netip.MustParseAddr("10.80.1.9"), SrcPort: 1, DstPort: 2}.Bytes()
			p := &pcapng.Packet{Interface: c.in, Data: data, Len: len(data), Flags: pcapng.Inbound}
			if who == Resolver(n) {
				d := capture.Detail{Verdict: c.v, Out: -1, In: c.in}
				p.Verdict = d.AppendTo(nil)
			} else if c.v.Drop() {
				p.Comment = "verdict=drop reason=" + c.v.String() + ": words"
			}
			if err := l.packet(p); err != nil {
				t.Fatal(err)
			}
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
			_, said, _ := strings.Cut(out.String(), "sent by ")
			said, _, _ = strings.Cut(said, "  ")
			if said = strings.TrimSpace(said); who == Resolver(n) && c.in == 2 && c.want != "" {
				said = strings.TrimPrefix(strings.TrimSuffix(said, "@"+api.ShortID(fake.WideID)), "peer ")
			}
			if said != c.want {
				t.Errorf("%T, %+v: said is %q: %s", who, c, said, out.String())
			}
			var talker string
			for pair := range l.Summary.conversations {
				talker = pair[0]
			}
			if !strings.Contains(talker, c.want) || c.want == "" && strings.HasPrefix(talker, "peer") {
				t.Errorf("%T, %+v: the talker is %q", who, c, talker)
			}
		}
	}
}
