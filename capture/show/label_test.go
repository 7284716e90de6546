package show

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/fake"
)

// callers is a Resolver with names that the test sets.
type callers struct {
	containers map[string]string // by endpoint
	addrs      map[netip.Addr]string
	born       map[string]int64 // of those that were asked for
}

func (c *callers) Container(id string) string { return c.containers[id] }
func (*callers) Network(string) string        { return "" }
func (c *callers) Addr(a netip.Addr) string   { return c.addrs[a.Unmap()] }
func (*callers) Since(uint64) pcapng.Names    { return nil }
func (*callers) Version() uint64              { return 1 }

func (c *callers) Born(name string) (int64, bool) {
	ns, asked := c.born[name]
	return ns, asked
}

// The name of an address is that of the container that had it when the frame was seen, not of the one that has it now.
func TestLabelsAddr(t *testing.T) {
	n := &callers{addrs: map[netip.Addr]string{netip.MustParseAddr("10.80.0.7"): "heir", netip.MustParseAddr("10.80.0.8"): "db"},
		containers: map[string]string{fake.WebID: "web", "heir": "heir"}}
	l := &Labels{Resolver: n}
	seven := []netip.Prefix{netip.MustParsePrefix("10.80.0.7/16")}
	for i, id := range []string{fake.WebID, fake.OtherID, "heir"} {
		l.AddInterface(&pcapng.Interface{Name: id, Addrs: seven, Description: fmt.Sprintf("port=%d kind=container network=%s vni=80 sandbox=x came=7", i+1, fake.WideID)})
	}
	l.AddInterface(&pcapng.Interface{Name: "192.0.2.2", Addrs: seven, Description: "port=4 kind=remote network=" + fake.WideID + " vni=80"})
	for _, c := range []struct {
		addr  string
		ports []int
		want  string
	}{
		{"10.80.0.7", nil, "heir"}, {"10.80.0.7", []int{-1, 9}, "heir"}, {"10.80.0.7", []int{0}, "web"}, {"::ffff:10.80.0.7", []int{-1, 0}, "web"},
		{"10.80.0.7", []int{1}, ""}, {"10.80.0.7", []int{2}, "heir"}, {"10.80.0.7", []int{3}, "heir"}, {"10.80.0.8", []int{0}, "db"},
	} {
		if got := l.addrName(netip.MustParseAddr(c.addr), c.ports...); got != c.want {
			t.Errorf("%s at %v is %q, want %q", c.addr, c.ports, got, c.want)
		}
	}
	for born, want := range map[int64]string{5: "heir", 7: "heir", 8: ""} { // the port came at 7
		n.born = map[string]int64{"heir": born}
		if got := l.addrName(seven[0].Addr(), 1); got != want || l.addrName(seven[0].Addr(), 0) != "web" {
			t.Errorf("made at %d, before it was started again it is called %q, want %q", born, got, want)
		}
	}
}

// A file with names between all of its packets is read in linear time: Since gives the new names only.
func TestFileNamesSince(t *testing.T) {
	n := &FileNames{}
	a := netip.MustParseAddr("10.0.0.0")
	for i := range 1000 {
		a = a.Next()
		v := n.Version()
		n.Add(pcapng.Names{{Addr: a, Name: fmt.Sprint("c", i)}, {Addr: a, Name: fmt.Sprint("c", i)}, {Addr: a}})
		if news := n.Since(v); len(news) != 1 || news[0].Addr != a {
			t.Fatalf("after one name: %v", news)
		}
	}
	v := n.Version()
	n.Add(pcapng.Names{{Addr: a, Name: "web"}})
	if got := fmt.Sprint(n.Since(v), " ", n.Addr(a), " ", n.Addrs("web"), n.Addrs("c999")); got != "[{10.0.3.232 web}] web [10.0.3.232] [10.0.3.232]" {
		t.Errorf("renamed: %s", got)
	}
	if len(n.Since(n.Version())) > 0 {
		t.Error("nothing is new, yet it is told")
	}
}

func TestLabels(t *testing.T) {
	l := &Labels{Resolver: &callers{containers: map[string]string{fake.WebID: "web"}}}
	if l.label(0) != "" || l.label(-1) != "" {
		t.Error("what is not there has a name")
	}
	l.AddInterface(&pcapng.Interface{Name: fake.WebID, Description: "port=1 kind=container network=" + fake.WideID + " vni=80 link=x view=outer: rebuilt"})
	l.AddInterface(&pcapng.Interface{Name: fake.OtherID, Description: "port=2 kind=container network=" + fake.WideID + " vni=80"})
	l.AddInterface(&pcapng.Interface{Name: "eth0", Description: "of somebody else"})
	for i, want := range []string{"web (outer)", "80cc33333333", "eth0"} {
		if got := l.label(i); got != want {
			t.Errorf("%d is %q, want %q", i, got, want)
		}
	}
	if got := l.fileInterface(0).Description; got != "port=1 kind=container network=aaaa11111111 vni=80 link=x endpoint=9b1d44444444 view=outer: rebuilt" {
		t.Error(got)
	}
	told := l.fileInterface(0)
	if p, ok := capture.ReadPort(&told); !ok || !p.Outer || p.VNI != 80 {
		t.Errorf("%+v, %v", p, ok)
	}
	if got := l.comment("verdict=forwarded out=" + fake.WebID); got != "verdict=forwarded out=web" {
		t.Error(got)
	}
}

// Names that are too long are ignored, and do not count towards the bound.
func TestFileNamesLong(t *testing.T) {
	many := make(pcapng.Names, 2000)
	for i := range many {
		many[i] = pcapng.Name{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Name: strings.Repeat("x", 60_000)}
	}
	var f FileNames
	f.Add(many)
	f.Add(pcapng.Names{{Addr: netip.MustParseAddr("10.0.0.1"), Name: "web"}})
	if len(f.names) != 1 || f.size != 1 || f.Addr(netip.MustParseAddr("10.0.0.1")) != "web" {
		t.Errorf("%d names are kept", len(f.names))
	}
}

// Other hosts are peers, and a network's multicast group is no host.
func TestLabelsRemote(t *testing.T) {
	l := &Labels{Resolver: &callers{}}
	for i, want := range []string{"peer 192.0.2.2@", "group 239.1.1.1@", "peer 2001:db8::2@", "group ff05::100@"} {
		_, addr, _ := strings.Cut(strings.TrimSuffix(want, "@"), " ")
		l.AddInterface(&pcapng.Interface{Name: addr, Description: fmt.Sprintf("port=%d kind=remote network=%s vni=80", i+1, fake.WideID)})
		if got := l.label(i); !strings.HasPrefix(got, want) {
			t.Errorf("%s is called %q, want %s…", addr, got, want)
		}
	}
}
