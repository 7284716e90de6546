package test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A ledger has two independent counts of the same frames: tapestry's and the kernel's.
type ledger struct {
	networks []network
	ports    []port
	left     map[string]bool       // networks from which a port was removed: its frames are in the network's counters only
	links    map[string]statistics // by name
}

// statistics are the kernel's counters of a link: a TAP's tx is what was read from it, its rx what was written to it.
type statistics struct{ rxPackets, rxBytes, txPackets, txBytes uint64 }

const countLinks = `cd /sys/class/net; for d in tpt* tpv*; do
	cd $d/statistics && echo $d $(cat rx_packets rx_bytes tx_packets tx_bytes); cd ../..
done 2>/dev/null; true`

func (h *Host) ledger(t *testing.T) ledger {
	t.Helper()
	l := ledger{left: map[string]bool{}, links: map[string]statistics{}}
	for line := range strings.Lines(h.in(t, "sh", "-c", countLinks)) {
		var name string
		var s statistics
		if _, err := fmt.Sscan(line, &name, &s.rxPackets, &s.rxBytes, &s.txPackets, &s.txBytes); err != nil {
			t.Fatalf("statistics %q: %v", line, err)
		}
		l.links[name] = s
	}
	l.ports, l.networks = objects[port](t, h, "ports"), objects[network](t, h, "networks")
	for _, r := range h.requests(t, mark{}) {
		if methodName(r) == "DeleteEndpoint" {
			l.left[r.Network] = true
		}
	}
	return l
}

// checkCounters checks that tapestry's counters agree with each other and with the kernel's, as soon as no frame is in flight.
// The networks must attach by veth, and tapestry must run since before their containers were started: its counters start with
// it, the kernel's with the links.
func (h *Host) checkCounters(t *testing.T) {
	t.Helper()
	testhost.Eventually(t, patience, func() error { return h.ledger(t).check() })
}

func (l ledger) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	in := map[string]uint64{} // by network
	for _, p := range l.ports {
		in[p.Network] += p.RxFrames
		if p.Offered != p.TxFrames+p.Refused {
			wrong("%d frames were sent to it, but tx + refused are %d: %+v", p.Offered, p.TxFrames+p.Refused, p)
		}
		if p.Kind == "container" {
			l.checkContainer(p, wrong)
		} else if p.RxFrames > p.WireRx || p.TxFrames > p.WireTx {
			wrong("more frames than datagrams, and a datagram holds one frame or a part of one: %+v", p)
		}
	}
	for _, n := range l.networks {
		if sum := n.Forwarded + n.Flooded + n.Answered + total(n.Drops); n.Rx != sum {
			wrong("rx is %d, but forwarded + flooded + answered + drops are %d: %+v", n.Rx, sum, n)
		}
		if n.Rx < in[n.ID] || n.Rx > in[n.ID] && !l.left[n.ID] {
			wrong("rx is %d, but the sum of its ports' is %d: %+v", n.Rx, in[n.ID], n)
		}
	}
	return errors.Join(errs...)
}

// checkContainer compares a container's port with its TAP and its veth's host end.
func (l ledger) checkContainer(p port, wrong func(string, ...any)) {
	id := strings.TrimPrefix(p.Link, "tpc")
	tap, ok := l.links["tpt"+id]
	veth, too := l.links["tpv"+id]
	if !ok || !too {
		wrong("no links tpt%s and tpv%s: %+v", id, id, p)
		return
	}
	frames, bytes := p.announced()
	frames, bytes = frames+tap.txPackets, bytes+tap.txBytes
	if p.RxFrames != frames || p.RxBytes != bytes {
		wrong("%d frames, %d bytes came from it, but the kernel counts, with what Join sends for it, %d and %d: %+v",
			p.RxFrames, p.RxBytes, frames, bytes, p)
	}
	if veth.rxPackets != tap.txPackets+p.Missed {
		wrong("the container sent %d frames, but the TAP passed %d on and %d were missed: %+v", veth.rxPackets, tap.txPackets, p.Missed, p)
	}
	// Frames from a tunnel are joined to super-frames, which lack the headers of all but the first: of 42 to 134 bytes each.
	joined, headers := p.TxFrames-tap.rxPackets, p.TxBytes-tap.rxBytes
	if p.TxFrames < tap.rxPackets || p.TxBytes < tap.rxBytes || joined > 0 && !l.tunnelled(p.Network) ||
		headers < 42*joined || headers > 134*joined {
		wrong("%d frames, %d bytes left to it, but the kernel counts %d and %d: %+v", p.TxFrames, p.TxBytes, tap.rxPackets, tap.rxBytes, p)
	}
}

// announced are the frames, and their bytes, that Join sent on behalf of the container: an ARP announcement for each IPv4 address, a
// neighbour advertisement for each IPv6 one.
func (p port) announced() (frames, bytes uint64) {
	for _, address := range p.Addresses {
		frames++
		if strings.Contains(address, ":") {
			bytes += 14 + 40 + 32
		} else {
			bytes += 14 + 28
		}
	}
	return frames, bytes
}

func (l ledger) tunnelled(id string) bool {
	for _, n := range l.networks {
		if n.ID == id {
			return n.VNI != 0
		}
	}
	return false
}

func total(drops map[string]uint64) (sum uint64) {
	for _, n := range drops {
		sum += n
	}
	return sum
}

// TestLedger: a single frame that is missing anywhere is found.
func TestLedger(t *testing.T) {
	right := func() ledger {
		return ledger{
			networks: []network{{ID: "X", Rx: 11, Forwarded: 8, Flooded: 2, Drops: map[string]uint64{"mtu": 1}}},
			ports: []port{
				{Network: "X", Kind: "container", Link: "tpc1", Addresses: []string{"10.77.0.2/24", "fd00::2/64"},
					RxFrames: 9, RxBytes: 828, TxFrames: 7, TxBytes: 700, Offered: 8, Refused: 1, Missed: 1},
				{Network: "X", Kind: "remote", RxFrames: 2, TxFrames: 2, Offered: 2, WireRx: 3, WireTx: 3},
			},
			left: map[string]bool{},
			links: map[string]statistics{
				"tpt1": {txPackets: 7, txBytes: 700, rxPackets: 7, rxBytes: 700},
				"tpv1": {rxPackets: 8},
			},
		}
	}
	if err := right().check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(l *ledger){
		"a frame less in the network's counters": func(l *ledger) { l.networks[0].Rx--; l.networks[0].Forwarded-- },
		"a frame without a verdict":              func(l *ledger) { l.networks[0].Forwarded-- },
		"a frame less from the container":        func(l *ledger) { l.ports[0].RxFrames--; l.networks[0].Rx--; l.networks[0].Forwarded-- },
		"a byte less from the container":         func(l *ledger) { l.ports[0].RxBytes-- },
		"a frame neither sent nor refused":       func(l *ledger) { l.ports[0].Offered++ },
		"a frame sent that never arrived":        func(l *ledger) { l.ports[0].TxFrames++; l.ports[0].Offered++; l.ports[0].TxBytes += 98 },
		"a frame lost before the TAP":            func(l *ledger) { l.links["tpv1"] = statistics{rxPackets: 9} },
		"a frame that no datagram brought":       func(l *ledger) { l.ports[1].RxFrames += 2; l.networks[0].Rx += 2; l.networks[0].Flooded += 2 },
		"no link":                                func(l *ledger) { maps.DeleteFunc(l.links, func(string, statistics) bool { return true }) },
	} {
		l := right()
		change(&l)
		if l.check() == nil {
			t.Error("not found: " + name)
		}
	}
}
