package tunnel

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestMutatedDatagrams: whatever comes to the VXLAN port is counted once and exactly, and nothing is delivered from who is no peer of that
// network. With TAPESTRY_MILLION=1 a million comes.
func TestMutatedDatagrams(t *testing.T) {
	n := 30_000
	if os.Getenv("TAPESTRY_MILLION") == "1" {
		n = 1_000_000
	}
	host(t)
	v := listen(t, "127.0.0.1", 1)
	arena := make([]byte, recvMsgs*recvRoom)
	senders := []netip.AddrPort{at("127.0.0.2"), at("127.0.0.3"), at("127.0.0.4")} // peers of one network each, and who is none
	delivered, links := make(map[linkKey]uint64), make(map[linkKey]*Link)
	for i, peer := range senders[:2] {
		k := linkKey{vni + uint32(i), peer.Addr()}
		l, err := v.Link(k.vni, peer)
		testhost.Must(t, err)
		l.SetMTU(1450)
		l.Bind(func(frames []ether.Frame) {
			delivered[k] += uint64(len(frames))
			for i := range frames {
				if frames[i].Check() == nil {
					_ = frames[i].Flow()
				}
			}
		})
		links[k], links[linkKey{hostVNI, peer.Addr()}] = l, l.peer.Load().trains
	}
	var fds []int
	for _, a := range senders {
		fd, err := bind(a, false)
		testhost.Must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}

	chance := rand.New(rand.NewPCG(3, 4))
	corpus := seeds(t)
	came, dropped, refused := make(map[linkKey]uint64), make(map[string]uint64), 0
	files := openFiles(t)
	var before, after runtime.MemStats
	for i := range n {
		d := mutated(chance, corpus)
		from := chance.IntN(len(senders))
		if err := unix.Sendto(fds[from], d, 0, toSockaddr(v.Local)); err != nil {
			refused++
		} else if why, k := expected(d, senders[from].Addr(), links); why != "" {
			dropped[why]++
		} else if came[k]++; k.vni == hostVNI {
			if _, _, ok := parse(d[headerLen:]); !ok {
				dropped["no_peer"]++
			}
		}
		if i%256 == 255 || i == n-1 {
			settled(t)
			for _, p := range v.Peers() {
				p.budgetLeft = budget
			}
			for r := v.Receivers()[0]; ; {
				testhost.Must(t, r.Drain(arena))
				if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 0); n == 0 {
					break
				}
			}
		}
		if i == n/10 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if refused > 0 {
		t.Errorf("%d could not be sent", refused)
	}
	for why, got := range v.RxDropped() {
		if got != dropped[why] {
			t.Errorf("%s: %d are counted, %d were sent", why, got, dropped[why])
		}
	}
	for k, l := range links {
		if got := l.Stats().WireRx; got != came[k] || k.vni != hostVNI && delivered[k] != came[k] {
			t.Errorf("VNI %d from %s: %d are counted, %d delivered, %d were sent", k.vni, k.host, got, delivered[k], came[k])
		}
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d files are open, before it %d", now, files)
	}
	t.Logf("%d datagrams: dropped %v, delivered %v", n, dropped, came)
}

// expected is what becomes of a datagram, by RFC 7348 and the peers of each network: why it is dropped, or the link that has it.
func expected(d []byte, from netip.Addr, links map[linkKey]*Link) (why string, k linkKey) {
	switch {
	case len(d) < 8:
		return "short", k
	case d[0]&8 == 0:
		return "bad_header", k
	}
	k = linkKey{binary.BigEndian.Uint32(d[4:]) >> 8, from}
	if links[k] == nil {
		return "no_peer", k
	}
	return "", k
}

// seeds are datagrams as they should be, of the networks of the test, of another and of none.
func seeds(t *testing.T) (all [][]byte) {
	for _, p := range []packet{{Payload: packets.Data(700)}, {UDP: true, Payload: packets.Data(50)}, {V6: true, Payload: packets.Data(1300)}, {UDP: true, V6: true, Payload: packets.Data(1)}} {
		for _, n := range []uint32{vni, vni + 1, 99, ether.MaxVNI} {
			all = append(all, encapsulated(t, n, p.frame(t).Bytes()), encapsulated(t, n, p.super(t, 0).Bytes()), encapsulated(t, n, p.super(t, 100).Bytes()))
		}
	}
	var r report
	body := make([]byte, reportLen)
	r.encode(body)
	for _, m := range []message{{kind: kindOpen, nonce: 1}, {kind: kindSegment, nonce: 1, body: packets.Data(400)}, {kind: kindAsk, nonce: 1}, {kind: kindAnswer, nonce: 1, body: body},
		{kind: kindProbe, nonce: 2, index: 3, body: make([]byte, tallyLen)}, {kind: kindProbe, mode: total, nonce: 2}, {kind: kindEcho, nonce: 2, body: []byte{1, 1, 1}}} {
		all = append(all, encapsulated(t, hostVNI, m.frame().Bytes()))
	}
	return all
}

// mutated is a seed with something done to it, or random bytes.
func mutated(chance *rand.Rand, corpus [][]byte) []byte {
	if chance.IntN(20) == 0 {
		d := make([]byte, chance.IntN(1600))
		for i := range d {
			d[i] = byte(chance.Uint32())
		}
		return d
	}
	d := append(make([]byte, 0, 1600), corpus[chance.IntN(len(corpus))]...)
	for range chance.IntN(4) {
		switch chance.IntN(6) {
		case 0:
			d = d[:chance.IntN(len(d)+1)]
		case 1:
			for range chance.IntN(100) {
				d = append(d, byte(chance.Uint32()))
			}
		case 2: // the VXLAN header
			if len(d) >= headerLen {
				d[chance.IntN(headerLen)] = byte(chance.Uint32())
			}
		case 3: // the headers inside
			if len(d) > 0 {
				d[chance.IntN(min(len(d), headerLen+80))] = byte(chance.Uint32())
			}
		case 4:
			if len(d) > 0 {
				d[chance.IntN(len(d))] ^= 1 << chance.IntN(8)
			}
		case 5: // something of another one
			if other := corpus[chance.IntN(len(corpus))]; len(d) > 0 {
				copy(d[chance.IntN(len(d)):], other[chance.IntN(len(other)):])
			}
		}
	}
	return d
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	testhost.Must(t, err)
	return len(all)
}
