package vswitch

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// leave gives the ports by which a frame leaves the bridge and the switch, as in "1 3".
func (p *pair) leave(in int, f ether.Frame) (bridge, sw string) {
	var b, s []string
	p.exchange(in, []ether.Frame{f}, func(out int, bridge, sw [][]byte) {
		for _, all := range []struct {
			frames [][]byte
			to     *[]string
		}{{bridge, &b}, {sw, &s}} {
			for _, got := range all.frames {
				if string(got) == string(f.Bytes()) {
					*all.to = append(*all.to, strconv.Itoa(out))
				} else if got[0] != 0xff {
					*all.to = append(*all.to, strconv.Itoa(out)+" another")
				}
			}
		}
	})
	return strings.Join(b, " "), strings.Join(s, " ")
}

// What is not as with the kernel's bridge: docs/bridge.md has the same list, in the same order.
func TestBridgeExceptions(t *testing.T) {
	const all = "1 2 3 4 5" // ports, of what port 0 has received
	first, other := mac(1), mac(2)
	exceptions := []struct {
		name string
		do   func(t *testing.T, p *pair) (bridge, sw string) // what becomes of the last frame of a few
		want [2]string
	}{
		{"pause frames", func(t *testing.T, p *pair) (string, string) {
			p.leave(2, frame(first, ether.MAC{1, 0x80, 0xc2, 0, 0, 1}, 1))
			return p.leave(0, frame(other, first, 2))
		}, [2]string{all, "2"}},
		{"a frame that ends within a VLAN tag", func(t *testing.T, p *pair) (string, string) {
			b := make([]byte, 19)
			copy(b, broadcast[:])
			copy(b[6:], first[:])
			b[12] = 0x81
			return p.leave(0, ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{}))
		}, [2]string{"", all}},
		{"pinned addresses", func(t *testing.T, p *pair) (string, string) {
			return p.leave(0, frame(pinnedAt(3), broadcast, 1))
		}, [2]string{all, ""}},
		{"VLAN tags over a tunnel", func(t *testing.T, p *pair) (string, string) {
			f := sized(first, pinnedAt(4), 1, 9000+ether.HeaderLen+8)
			f.Bytes()[12], f.Bytes()[13] = 0x81, 0
			return p.leave(0, f)
		}, [2]string{"4", ""}},
		{"link-local groups over a tunnel", func(t *testing.T, p *pair) (string, string) {
			return p.leave(4, frame(first, ether.MAC{1, 0x80, 0xc2, 0, 0, 0xe}, 1))
		}, [2]string{"", "0 1 2 3"}},
		{"bounds", func(t *testing.T, p *pair) (string, string) {
			for i := range DefaultPerPort + 1 {
				p.age(1)
				p.leave(1, frame(mac(1000+i), broadcast, i))
			}
			return p.leave(0, frame(other, mac(1000), 1))
		}, [2]string{"1", all}},
		{"the bridge's own addresses", func(t *testing.T, p *pair) (string, string) {
			own, err := netlink.LinkByName("br0")
			testhost.Must(t, err)
			return p.leave(0, frame(first, ether.MAC(own.Attrs().HardwareAddr), 1))
		}, [2]string{"", all}},
		{"a link that is down", func(t *testing.T, p *pair) (string, string) {
			p.leave(3, frame(first, broadcast, 1))
			p.bridge.carrier(t, 3, false)
			p.ports[3].SetDown(func() bool { return true })
			var b, s []string
			f := frame(other, first, 2)
			p.bridge.write(t, 0, f.Bytes())
			for _, i := range []int{1, 2, 4, 5} {
				if got := p.bridge.read(t, i, true, f.Bytes()); len(got) == 1 {
					b = append(b, strconv.Itoa(i))
				}
			}
			p.ports[0].Ingress([]ether.Frame{f})
			for i, w := range p.outs {
				if len(w.frames) > 0 {
					s = append(s, strconv.Itoa(i))
				}
			}
			return strings.Join(b, " "), strings.Join(s, " ")
		}, [2]string{"1 2 4 5", ""}},
		{"the sender of a frame that is too long is told", func(t *testing.T, p *pair) (string, string) {
			b := packets.Packet{SrcMAC: first, DstMAC: pinnedAt(2), DF: true, Payload: make([]byte, 1480)}.Bytes()
			return p.leave(0, ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{}))
		}, [2]string{"", "0 another"}},
		{"addresses that flap", func(t *testing.T, p *pair) (string, string) {
			for i := range flapMoves + 2 {
				p.leave(1+i%2, frame(first, broadcast, i))
			}
			return p.leave(2, frame(first, broadcast, 1))
		}, [2]string{"0 1 3 4 5", ""}},
	}
	for _, e := range exceptions {
		t.Run(e.name, func(t *testing.T) {
			p := newPair(t, Config{})
			if b, s := e.do(t, p); b != e.want[0] || s != e.want[1] {
				t.Errorf("the bridge sends by ports %q, the switch by %q, want %q", b, s, e.want)
			}
		})
	}
	text, err := os.ReadFile("../docs/bridge.md")
	testhost.Must(t, err)
	var told []string
	for _, m := range regexp.MustCompile(`(?m)^[0-9]+\. \*\*(.+)\*\*`).FindAllStringSubmatch(string(text), -1) {
		told = append(told, m[1])
	}
	var known []string
	for _, e := range exceptions {
		known = append(known, e.name)
	}
	if !slices.Equal(told, known) || len(known) > 10 {
		t.Errorf("docs/bridge.md tells of %q, known are %q: ten at most", told, known)
	}
}

// carrier has a port's link lose its carrier, or get it again. It returns when the bridge has forgotten what it had learned there.
func (b *bridge) carrier(t *testing.T, port int, on bool) {
	value := 0
	if on {
		value = 1
	}
	testhost.Must(t, unix.IoctlSetPointerInt(b.taps[port].fd, unix.TUNSETCARRIER, value))
	testhost.Until(t, "forgotten by the bridge", func() bool {
		all, err := netlink.NeighList(b.taps[port].link.Attrs().Index, unix.AF_BRIDGE)
		testhost.Must(t, err)
		return !slices.ContainsFunc(all, func(n netlink.Neigh) bool { return n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 })
	})
}

// Both forget what was not seen for the ageing time by the clock, and keep what was. Near that time, which is not to the same moment, nothing is compared.
func TestBridgeAges(t *testing.T) {
	const ageing, about = 3 * time.Second, 2 * time.Second // a second for the switch's clock, one for a machine that is busy
	p := newPair(t, Config{Ageing: ageing})
	p.bridge.setAgeing(t, ageing)
	start := time.Now()
	for try := range 20 {
		quiet, lively := mac(10+2*try), mac(11+2*try)
		began := time.Now()
		last := began // when lively was seen
		p.leave(0, frame(quiet, broadcast, 0))
		fresh, old, fast := 0, 0, true
		for fast && old < 3 {
			p.leave(0, frame(lively, broadcast, 0))
			seen := time.Now()
			fast = seen.Sub(last) < ageing-about
			last = seen
			p.sw.Tick(time.Since(start))
			before := time.Since(began)
			qb, qs := p.leave(1, frame(mac(1), quiet, 0))
			lb, ls := p.leave(1, frame(mac(1), lively, 0))
			after := time.Since(began)
			if fast = fast && time.Since(last) < ageing-about; fast && (lb != "0" || ls != "0") {
				t.Fatalf("an address that is seen again and again: %q and %q", lb, ls)
			}
			switch {
			case after < ageing-about:
				if fresh++; qb != "0" || qs != "0" {
					t.Fatalf("seen %v ago: %q and %q", after, qb, qs)
				}
			case before > ageing+about:
				if old++; qb != "0 2 3 4 5" || qs != qb {
					t.Fatalf("seen %v ago: %q and %q", before, qb, qs)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		if fast && fresh > 0 {
			return
		}
		t.Logf("the machine was too slow: again")
	}
	testhost.Cannot(t, "needs a machine that runs a test once in a second")
}

// setAgeing sets the ageing time.
func (b *bridge) setAgeing(t *testing.T, ageing time.Duration) {
	ticks := uint32(ageing / (10 * time.Millisecond)) // USER_HZ
	link := *b.link
	link.AgeingTime = &ticks
	testhost.Must(t, netlink.LinkModify(&link))
}
