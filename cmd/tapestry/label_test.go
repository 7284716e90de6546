package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// Bytes that gopacket, or anything of ours, could stumble over end no watch, and no text of theirs reaches a terminal.
func TestWatchHostile(t *testing.T) {
	d := newCapturing(t, func(f *feed) {
		f.ports()
		f.packet(50, func(p *pcapng.Packet) { // gopacket panics on an ARP whose addresses are longer than it
			copy(p.Data[12:], []byte{8, 6, 0, 1, 8, 0, 0x86, 4, 0, 1})
		})
		for n := range 60 { // IPv6 with extension headers, and DNS, cut off everywhere
			f.packet(60, func(p *pcapng.Packet) {
				copy(p.Data[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0xff, 0xff, 0, 64})
				p.Data, p.Len = p.Data[:n], 60
				p.Comment = "\x1b[2J \u202e verdict"
			})
			f.packet(100, func(p *pcapng.Packet) { p.Data[37], p.Data[36] = 53, 0; p.Data = p.Data[:42+n%58]; p.Len = 100 })
		}
	})
	r := tapestry(t, d.args(t, "watch", "-v")...)
	if r.code != exitFine || strings.Count(r.out, " B") < 121 || !strings.Contains(r.out, "Error: runtime error") || strings.ContainsAny(r.out, "\x1b\u202e") {
		t.Errorf("exit %d, %s\n%q", r.code, r.stderr, r.out)
	}
}

// calledWeb knows one container, and no network.
type calledWeb struct{}

func (calledWeb) Container(id string) string {
	if id == webID {
		return "web"
	}
	return ""
}

func (calledWeb) Network(string) string     { return "" }
func (calledWeb) Addr(netip.Addr) string    { return "" }
func (calledWeb) Since(uint64) pcapng.Names { return nil }
func (calledWeb) Version() uint64           { return 1 }

// Who has an address now is not who had it when another port's frame was seen.
func TestLabelsAddr(t *testing.T) {
	n := &names{}
	n.now.Store(&directory{addrs: map[netip.Addr]string{netip.MustParseAddr("10.80.0.7"): "heir", netip.MustParseAddr("10.80.0.8"): "db"},
		endpoints: map[string]namedEnd{webID: {name: "web"}, "heir": {name: "heir"}}})
	l := &labels{who: n}
	seven := []netip.Prefix{netip.MustParsePrefix("10.80.0.7/16")}
	for i, id := range []string{webID, otherID, "heir"} {
		l.add(&pcapng.Interface{Name: id, Addrs: seven, Description: fmt.Sprintf("port=%d kind=container network=%s vni=80 sandbox=x came=7", i+1, wideID)})
	}
	l.add(&pcapng.Interface{Name: "192.0.2.2", Addrs: seven, Description: "port=4 kind=remote network=" + wideID + " vni=80"})
	for _, c := range []struct {
		addr  string
		ports []int
		want  string
	}{
		{"10.80.0.7", nil, "heir"}, {"10.80.0.7", []int{-1, 9}, "heir"}, {"10.80.0.7", []int{0}, "web"}, {"::ffff:10.80.0.7", []int{-1, 0}, "web"},
		{"10.80.0.7", []int{1}, ""}, {"10.80.0.7", []int{2}, "heir"}, {"10.80.0.7", []int{3}, "heir"}, {"10.80.0.8", []int{0}, "db"},
	} {
		if got := l.addr(netip.MustParseAddr(c.addr), c.ports...); got != c.want {
			t.Errorf("%s at %v is %q, want %q", c.addr, c.ports, got, c.want)
		}
	}
	for born, want := range map[int64]string{5: "heir", 7: "heir", 8: ""} { // the port came at 7
		n.asked = map[string]int64{"heir": born}
		if got := l.addr(seven[0].Addr(), 1); got != want || l.addr(seven[0].Addr(), 0) != "web" {
			t.Errorf("made at %d, before it was started again it is called %q, want %q", born, got, want)
		}
	}
}

// A file with names between all of its packets costs what it is long: who knows the names up to there is told the new
// ones only.
func TestFileNamesSince(t *testing.T) {
	n := &fileNames{}
	a := netip.MustParseAddr("10.0.0.0")
	for i := range 1000 {
		a = a.Next()
		v := n.Version()
		n.add(pcapng.Names{{Addr: a, Name: fmt.Sprint("c", i)}, {Addr: a, Name: fmt.Sprint("c", i)}, {Addr: a}})
		if news := n.Since(v); len(news) != 1 || news[0].Addr != a {
			t.Fatalf("after one name: %v", news)
		}
	}
	v := n.Version()
	n.add(pcapng.Names{{Addr: a, Name: "web"}})
	if got := fmt.Sprint(n.Since(v), " ", n.Addr(a), " ", n.Host("web"), n.Host("c999")); got != "[{10.0.3.232 web}] web [10.0.3.232] [10.0.3.232]" {
		t.Errorf("renamed: %s", got)
	}
	if len(n.Since(n.Version())) > 0 {
		t.Error("nothing is new, yet it is told")
	}
}

func TestLabels(t *testing.T) {
	l := &labels{who: calledWeb{}}
	if l.of(0) != "" || l.of(-1) != "" {
		t.Error("what is not there has a name")
	}
	l.add(&pcapng.Interface{Name: webID, Description: "port=1 kind=container network=" + wideID + " vni=80 link=x view=outer: rebuilt"})
	l.add(&pcapng.Interface{Name: otherID, Description: "port=2 kind=container network=" + wideID + " vni=80"})
	l.add(&pcapng.Interface{Name: "eth0", Description: "of somebody else"})
	for i, want := range []string{"web (outer)", "80cc33333333", "eth0"} {
		if got := l.of(i); got != want {
			t.Errorf("%d is %q, want %q", i, got, want)
		}
	}
	if got := l.told(0).Description; got != "port=1 kind=container network=aaaa11111111 vni=80 link=x endpoint=9b1d44444444 view=outer: rebuilt" {
		t.Error(got)
	}
	told := l.told(0)
	if p, ok := capture.ReadPort(&told); !ok || !p.Outer || p.VNI != 80 {
		t.Errorf("%+v, %v", p, ok)
	}
	if got := l.comment("verdict=forwarded out=" + webID); got != "verdict=forwarded out=web" {
		t.Error(got)
	}
}
