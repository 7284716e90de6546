package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// seen is a Writer that keeps packets as texts: interface/direction, length, comment.
func seen(t *testing.T, file []byte) (ports, packets []string, stats map[int]pcapng.Stats) {
	t.Helper()
	stats = map[int]pcapng.Stats{}
	for r := pcapng.NewReader(bytes.NewReader(file)); ; {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ports, packets, stats
		}
		testhost.Must(t, err)
		switch b := b.(type) {
		case *pcapng.Interface:
			p, ok := ReadPort(b)
			if !ok {
				t.Fatalf("the description %q is not read back", b.Description)
			}
			name := p.Name
			if p.Outer {
				name += "*"
			}
			ports = append(ports, name)
		case *pcapng.Packet:
			dir := map[uint32]string{pcapng.Inbound: "<", pcapng.Outbound: ">"}[b.Flags&pcapng.Direction]
			text := fmt.Sprintf("%s%s%d", ports[b.Interface], dir, b.ID)
			if w := ReadComment(b.Comment); w != nil {
				text += " " + w["verdict"] + w["reason"] + w["fault"]
			}
			if d, ok := ReadDetail(b); ok && d.In >= 0 && d.In != b.Interface {
				text += " from " + ports[d.In]
			}
			if d, ok := ReadDetail(b); ok && d.Out >= 0 {
				text += " to " + ports[d.Out]
			}
			packets = append(packets, text)
		case *pcapng.Stats:
			stats[b.Interface] = *b
		}
	}
}

func TestEncoder(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	up := n.sw.Attach("192.0.2.2", wire{}, true, 1514)
	h.Plug(Port{Number: up.Number, Network: "one", VNI: 77, Name: "192.0.2.2", Remote: true, MTU: 1450,
		Tunnel: Tunnel{netip.MustParseAddrPort("192.0.2.1:4789"), netip.MustParseAddrPort("192.0.2.2:4790")}})
	up.Ingress([]ether.Frame{to(mac(9), mac(8), 0)}) // station 9 lives there
	for _, c := range []struct {
		show    EncoderOptions
		selects []string
		want    []string
	}{
		{EncoderOptions{}, nil, []string{"one-a<1", "one-a<2 dropspoofed", "one-b<3", "one-a<4", "192.0.2.2<5", "one-b>6 dropfaultloss"}},
		{EncoderOptions{Detail: true, Annotate: AnnotateAll}, nil, []string{"one-a<1 forwarded to one-b", "one-a<2 dropspoofed", "one-b<3 flooded", "one-a<4 forwarded to 192.0.2.2",
			"192.0.2.2<5 forwarded to one-b", "one-b>6 dropfaultloss to one-b"}},
		{EncoderOptions{Annotate: AnnotateNone, Point: In}, []string{"one-a"}, []string{"one-a<1", "one-a<2", "one-a<4"}},
		{EncoderOptions{Annotate: AnnotateNone, Point: Out}, nil, []string{"one-b>1", "one-a>3", "one-c>3", "192.0.2.2>3", "192.0.2.2>4", "one-b>5", "one-b>6"}},
		{EncoderOptions{Annotate: AnnotateNone, Point: Both}, []string{"one-b"}, []string{"one-b>1", "one-b<3", "one-b>5", "one-b>6"}},
		{EncoderOptions{View: Outer}, nil, []string{"192.0.2.2*>3", "192.0.2.2*>4", "192.0.2.2*<5"}},
		{EncoderOptions{View: Outer, Detail: true}, nil, []string{"192.0.2.2*>3 from one-b", "192.0.2.2*>4 from one-a", "192.0.2.2*<5 to one-b"}},
		{EncoderOptions{Annotate: AnnotateNone, View: BothViews}, nil, []string{"one-a<1", "one-a<2", "one-b<3", "192.0.2.2*>3", "one-a<4", "192.0.2.2*>4", "192.0.2.2<5", "192.0.2.2*<5", "one-b>6"}},
	} {
		h.frames.Store(0)
		sub := open(t, h, Options{})
		n.send(1, 2, 1)
		n.ports[1].Ingress([]ether.Frame{to(mac(3), mac(2), 2)}) // spoofed
		n.send(2, 8, 3)                                          // flooded
		n.send(1, 9, 4)                                          // travels
		up.Ingress([]ether.Frame{to(mac(9), mac(2), 5)})
		lost := to(mac(1), mac(2), 6)
		lost.Fault = ether.FaultLost
		n.ports[2].WatchFaulted(&lost)
		var file bytes.Buffer
		w := pcapng.NewWriter(&file, pcapng.Section{})
		var selects func(uint32) bool
		if c.selects != nil {
			selects = func(number uint32) bool { return slices.Contains(c.selects, h.port(number).Name) }
		}
		s := h.NewEncoder(w, c.show, selects)
		testhost.Must(t, s.AddPorts(sub.NewPorts()))
		frames, err := s.WriteFrom(sub)
		testhost.Must(t, err)
		testhost.Must(t, s.Statistics(sub.TrailingDrops()))
		testhost.Must(t, w.Flush())
		_, packets, stats := seen(t, file.Bytes())
		if !slices.Equal(packets, c.want) {
			t.Errorf("%+v:\n got %q\nwant %q", c.show, packets, c.want)
		}
		var delivered uint64
		for _, b := range stats {
			delivered += b.Delivered
		}
		if frames != 6 || delivered != 6 || s.Packets != uint64(len(packets)) {
			t.Errorf("%+v: %d frames, %d counted, %d packets", c.show, frames, delivered, s.Packets)
		}
		sub.Close()
	}
}

// A flooded frame is shown at the ports whose present MTU it fits.
func TestEncoderNarrower(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	up := n.sw.Attach("192.0.2.2", wire{}, true, 1514)
	h.SetMTU(up.Number, 99) // nobody knows it yet
	h.Plug(Port{Number: up.Number, Network: "one", Name: "192.0.2.2", Remote: true, MTU: 1450})
	for _, c := range []struct {
		mtu  int
		want []string
	}{
		{0, []string{"one-a>1", "one-c>1", "192.0.2.2>1"}},
		{50, []string{"one-a>1", "one-c>1", "192.0.2.2>1"}}, // 64 bytes are 50 and a header
		{49, []string{"one-a>1", "one-c>1"}},
	} {
		if c.mtu > 0 {
			h.SetMTU(up.Number, c.mtu)
		}
		h.frames.Store(0)
		sub := open(t, h, Options{})
		n.send(2, 8, 3)
		var file bytes.Buffer
		w := pcapng.NewWriter(&file, pcapng.Section{})
		s := h.NewEncoder(w, EncoderOptions{Point: Out, Annotate: AnnotateNone}, nil)
		testhost.Must(t, s.AddPorts(sub.NewPorts()))
		_, err := s.WriteFrom(sub)
		testhost.Must(t, err)
		testhost.Must(t, w.Flush())
		if _, packets, _ := seen(t, file.Bytes()); !slices.Equal(packets, c.want) {
			t.Errorf("MTU %d: got %q, want %q", c.mtu, packets, c.want)
		}
		sub.Close()
	}
}

// Wireshark reads the outer view as VXLAN of the right network, with valid IP headers, over IPv4 and IPv6.
func TestOuterTshark(t *testing.T) {
	testhost.Tools(t, "tshark")
	for _, c := range []struct{ local, remote, field string }{{"192.0.2.1:4789", "192.0.2.2:4789", "ip.src"}, {"[2001:db8::1]:4789", "[2001:db8::2]:4789", "ipv6.src"}} {
		tunnel := Tunnel{netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.remote)}
		h := NewHub()
		sw := vswitch.New(vswitch.Config{})
		a, up := sw.Attach("a", wire{}, false, 1514), sw.Attach(tunnel.Remote.Addr().String(), wire{}, true, 1514)
		h.Add("one", sw)
		h.Plug(Port{Number: a.Number, Network: "one", Name: "a", MTU: 1500})
		h.Plug(Port{Number: up.Number, Network: "one", VNI: 0x123456, Remote: true, Name: "r", MTU: 1450, Tunnel: tunnel})
		sub := open(t, h, Options{})
		f := left(t, false, false, 3000, 1000) // a super-frame
		f.Bytes()[0], f.Bytes()[6] = 2, 2
		copy(f.Bytes()[1:], []byte{1, 1, 1, 1, 1})
		a.Ingress([]ether.Frame{f, to(mac(1), mac(2), 1)})
		up.Ingress([]ether.Frame{to(mac(7), mac(1), 1)})
		path := filepath.Join(t.TempDir(), "outer.pcapng")
		file, err := os.Create(path)
		testhost.Must(t, err)
		w := pcapng.NewWriter(file, pcapng.Section{})
		s := h.NewEncoder(w, EncoderOptions{View: Outer}, nil)
		_, err = s.WriteFrom(sub)
		testhost.Must(t, err)
		testhost.Must(t, errors.Join(w.Flush(), file.Close()))
		out, err := exec.Command("tshark", "-r", path, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-e", "vxlan.vni",
			"-e", "udp.dstport", "-e", "eth.src", "-e", "_ws.expert", "-E", "occurrence=a", "-e", c.field).CombinedOutput()
		testhost.Must(t, err)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Running as") })
		if len(lines) < 5 {
			t.Fatalf("%d datagrams, want three segments and two frames:\n%s", len(lines), out)
		}
		for i, l := range lines {
			src := tunnel.Local.Addr().String()
			if i == len(lines)-1 {
				src = tunnel.Remote.Addr().String()
			}
			if !strings.HasPrefix(l, "1193046\t4789\t02:00:") || !strings.Contains(l, src) || strings.Contains(strings.ToLower(l), "bad") {
				t.Errorf("datagram %d reads %q", i, l)
			}
		}
	}
}
