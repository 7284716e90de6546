package vswitch

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// bridgeFrames is how many frames TestBridge sends; TAPESTRY_BRIDGE_FRAMES says another number.
const bridgeFrames = 1_000_000

// pair is a kernel's bridge and a switch that are told the same.
type pair struct {
	t       *testing.T
	r       *rand.Rand
	bridge  *bridge
	sw      *Switch
	ports   []*Port
	outs    []*recorder
	seen    map[ether.MAC]sighting // learned addresses, as a table of its own has them
	moves   map[ether.MAC]int      // of each, since the time went on
	now     int                    // seconds
	unknown int
	kinds   map[string]int // frames of each kind
}

// sighting is where an address was seen last, and when.
type sighting struct{ port, at int }

// recorder is a Sender that keeps what it is given, in order.
type recorder struct{ frames [][]byte }

func (w *recorder) Send(frames []*ether.Frame) (sent, bytes int) {
	for _, f := range frames {
		w.frames = append(w.frames, f.Bytes())
	}
	return len(frames), 0
}

// The pair's ports: uplinks are isolated ports of the bridge, a port's limit is that of the bridge's port: its MTU, an Ethernet header and a tag
// (is_skb_forwardable in net/core/dev.c), and for a frame that has a tag one more. What is too long for an uplink is in TestBridgeExceptions.
var pairPorts = []struct {
	uplink bool
	mtu    int
}{{false, 1500}, {false, 1500}, {false, 1400}, {false, 9000}, {true, 9000}, {true, 9000}}

func newPair(t *testing.T, cfg Config) *pair {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("TAPESTRY_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("TAPESTRY_SEED=%d", seed)
	p := &pair{t: t, r: rand.New(rand.NewPCG(seed, 0)), bridge: newBridge(t), sw: New(cfg), seen: map[ether.MAC]sighting{}, moves: map[ether.MAC]int{}, kinds: map[string]int{}}
	for i, c := range pairPorts {
		p.bridge.add(t, c.mtu, c.uplink)
		w := &recorder{}
		p.outs = append(p.outs, w)
		p.ports = append(p.ports, nil)
		p.attach(i)
		p.ports[i].Pin(pinnedAt(i))
		p.bridge.pin(t, pinnedAt(i), i)
	}
	return p
}

func (p *pair) attach(i int) {
	c := pairPorts[i]
	p.ports[i] = p.sw.Attach("p"+strconv.Itoa(i), p.outs[i], c.uplink, c.mtu+ether.HeaderLen+4)
}

// send lets port in receive frames on both sides, and compares what each port sends, byte by byte.
func (p *pair) send(in int, frames []ether.Frame) {
	p.t.Helper()
	p.exchange(in, frames, func(out int, bridge, sw [][]byte) {
		if !slices.EqualFunc(bridge, sw, bytes.Equal) {
			p.differ(in, out, bridge, sw, frames)
		}
	})
}

// exchange lets port in receive frames on both sides, then one more to all: when it has come out, so have those before it. It shows what each port sends.
func (p *pair) exchange(in int, frames []ether.Frame, show func(out int, bridge, sw [][]byte)) {
	end := sized(mac(0xff0000+in), broadcast, 0xfffffff, 60)
	all := append(slices.Clone(frames), end)
	for i := range all {
		p.bridge.write(p.t, in, all[i].Bytes())
	}
	p.ports[in].Ingress(all)
	for i, w := range p.outs {
		show(i, p.bridge.read(p.t, i, i != in && !(pairPorts[in].uplink && pairPorts[i].uplink), end.Bytes()), w.frames)
		w.frames = w.frames[:0]
	}
}

// differ ends the test with the first frame that only one side has sent.
func (p *pair) differ(in, out int, got, want [][]byte, sent []ether.Frame) {
	p.t.Helper()
	n := 0
	for n < min(len(got), len(want)) && bytes.Equal(got[n], want[n]) {
		n++
	}
	first := func(all [][]byte) []byte {
		if n < len(all) {
			return all[n][:min(len(all[n]), 32)]
		}
		return nil
	}
	p.bridge.tell(p.t)
	for i := range sent {
		p.t.Logf("%d: %d bytes % x", i, sent[i].Len(), sent[i].Bytes()[:min(sent[i].Len(), 26)])
	}
	p.t.Fatalf("from port %d by port %d: frame %d of %d is % x, of the switch's %d it is % x", in, out, n, len(got), first(got), len(want), first(want))
}

const stations = 120

// pinnedAt is an address that is pinned to a port, and which that port alone sends with: see TestBridgeExceptions.
func pinnedAt(port int) ether.MAC { return mac(stations + 1 + port) }

// pauser sends the pause frames, and nobody sends to it.
var pauser = mac(0xfe0000)

// frame is one that port in receives.
func (p *pair) frame(in int) ether.Frame {
	r := p.r
	src := mac(1 + in + len(p.ports)*r.IntN(stations/len(p.ports)))
	if r.IntN(40) == 0 {
		src = mac(1 + r.IntN(stations)) // most often one of another port: it moves
	}
	if old, ok := p.seen[src]; r.IntN(40) == 0 || ok && old.port != in && p.moves[src] == flapMoves { // one move more and it flaps, see TestBridgeExceptions
		src = pinnedAt(in)
	}
	dst, kind := mac(1+r.IntN(stations+len(p.ports))), "station"
	switch r.IntN(20) {
	case 0:
		p.unknown++
		dst, kind = mac(0x100000+p.unknown%0x10000), "unknown"
	case 1:
		dst, kind = broadcast, "broadcast"
	case 2:
		dst, kind = ether.MAC{1, 0, 0x5e, byte(r.IntN(128)), byte(r.IntN(256)), byte(r.IntN(256))}, "multicast"
	case 3:
		dst, kind = ether.MAC{0x33, 0x33, byte(r.IntN(256)), 0, 0, byte(r.IntN(256))}, "multicast"
	case 4:
		dst, kind = ether.MAC{1, 0x80, 0xc2, 0, 0, byte(r.IntN(0x30))}, "link-local"
		if pairPorts[in].uplink && dst[5] < 16 {
			dst[5] = 0 // see TestBridgeExceptions
		}
		if dst[5] == 1 {
			src = pauser // the bridge does not learn it, see TestBridgeExceptions
		}
	case 5:
		if r.IntN(5) == 0 {
			dst, kind = src, "to itself"
		}
	case 6:
		if r.IntN(5) == 0 {
			src, kind = [...]ether.MAC{{}, broadcast, {1, 0, 0x5e, 0, 0, 1}, {3, 1, 1, 1, 1, 1}}[r.IntN(4)], "bad source"
		}
	}
	b := make([]byte, ether.Headroom, ether.Headroom+1600)
	b = append(append(b, dst[:]...), src[:]...)
	tags := 0
	for r.IntN(4) == 0 && tags < 3 {
		b = binary.BigEndian.AppendUint16(b, [...]uint16{ether.TypeVLAN, ether.TypeQinQ}[r.IntN(2)])
		b = binary.BigEndian.AppendUint16(b, [...]uint16{0, 1, 4095, uint16(r.Uint32())}[r.IntN(4)])
		tags++
	}
	types := [...]uint16{ether.TypeIPv4, ether.TypeIPv6, ether.TypeARP, ether.TypeExperimental, 0x8808, 0x88cc, 0x8809, 0x9100, uint16(r.IntN(0x600)), uint16(r.Uint32())}
	b = binary.BigEndian.AppendUint16(b, types[r.IntN(len(types))])
	switch binary.BigEndian.Uint16(b[len(b)-2:]) {
	case ether.TypeVLAN, ether.TypeQinQ, 0x8864: // PPPoE: br_netfilter drops both, if the frame ends within that header, see TestBridgeExceptions
		b[len(b)-1]++
	}
	if tags > 0 {
		kind += ", tagged"
	}
	length := 0 // of the payload
	switch r.IntN(8) {
	case 0:
		length = 1400 + r.IntN(9)
	case 1:
		length = 1500 + r.IntN(9)
	case 2:
		length = r.IntN(1500)
	case 3:
		length = max(0, 6-len(b)+ether.Headroom+ether.HeaderLen)
	default:
		length = 46 + r.IntN(20)
	}
	if tags > 0 {
		length = max(length, 2)
	}
	b = append(b, make([]byte, length)...)
	for i := len(b) - length; i+4 <= len(b) && i < len(b)-length+8; i += 4 {
		binary.BigEndian.PutUint32(b[i:], r.Uint32())
	}
	p.kinds[kind]++
	if src[0]&1 == 0 && src != (ether.MAC{}) && src != pauser && src != pinnedAt(in) {
		if old, ok := p.seen[src]; ok && old.port != in {
			p.kinds["moved"]++
			p.moves[src]++
		}
		p.seen[src] = sighting{in, p.now}
	}
	return ether.Lend(b, ether.Offload{})
}

// age moves the time on. The bridge's own clock stands still, as far as ageing goes: what is old enough it is told to forget. TestBridgeAges has its clock.
func (p *pair) age(seconds int) {
	p.now += seconds
	clear(p.moves)
	p.sw.Tick(time.Duration(p.now) * time.Second)
	for m, s := range p.seen {
		if p.now-s.at >= int(DefaultAgeing/time.Second) {
			p.bridge.forget(p.t, m, s.port)
			delete(p.seen, m)
			p.kinds["aged"]++
		}
	}
}

// replug takes a port away, with what was learned there, and puts it back.
func (p *pair) replug(i int) {
	p.bridge.replug(p.t, i, pairPorts[i].uplink)
	p.bridge.pin(p.t, pinnedAt(i), i)
	p.ports[i].Detach()
	p.attach(i)
	p.ports[i].Pin(pinnedAt(i))
	for m, s := range p.seen {
		if s.port == i {
			delete(p.seen, m)
			p.kinds["unplugged"]++
		}
	}
}

// The switch sends each frame by the ports that the kernel's bridge sends it by, in its order, unchanged.
func TestBridge(t *testing.T) {
	frames := bridgeFrames
	if testing.Short() {
		frames /= 10
	}
	if n, err := strconv.Atoi(os.Getenv("TAPESTRY_BRIDGE_FRAMES")); err == nil {
		frames = n
	}
	p := newPair(t, Config{})
	began := time.Now()
	sent := 0
	for sent < frames {
		in := p.r.IntN(len(p.ports))
		batch := make([]ether.Frame, 1+p.r.IntN(64))
		for i := range batch {
			batch[i] = p.frame(in)
		}
		p.send(in, batch)
		sent += len(batch)
		if p.r.IntN(8) == 0 {
			p.age(flapWithin + p.r.IntN(200))
		}
		if p.r.IntN(500) == 0 {
			p.replug(p.r.IntN(len(p.ports)))
		}
	}
	tally := p.sw.Tally()
	t.Logf("%d frames in %v: %v; %d forwarded, %d flooded, dropped %v", sent, time.Since(began).Round(time.Millisecond), p.kinds, tally[Forwarded], tally[Flooded], tally.Drops())
}
