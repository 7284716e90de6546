//go:build !race

// The race detector makes sync.Pool forget at random.

package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

func TestSendNoAllocations(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	fd := k.v.receivers[0].fd
	discard := make([]byte, 1<<17)
	many := make([]*ether.Frame, 64)
	for i := range many {
		many[i] = packet{UDP: true, Payload: packets.Data(100)}.frame(t)
	}
	partial := make([]*ether.Frame, 64)
	for i := range partial {
		partial[i] = packet{UDP: true, Payload: packets.Data(100)}.super(t, 0)
	}
	var marks []*ether.Frame
	for i := range uint8(64) {
		marks = append(marks, lend(markedFrame(t, i&4 != 0, 1, i, 64)))
	}
	l.wire = Wire{DropTagged: true, DSCP: Inherit, TTL: Inherit}
	for name, batch := range map[string][]*ether.Frame{
		"a train for each":  marks,
		"partial checksums": partial,
		"one frame":         {packet{Payload: packets.Data(1000)}.frame(t)}, "64 frames": many,
		"super-frame": {packet{Payload: packets.Data(60000)}.super(t, 1388)},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if sent, _ := l.Send(batch); sent != len(batch) {
				t.Errorf("%s: refused", name)
			}
			for {
				if _, err := unix.Read(fd, discard); err != nil {
					break
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestDrainNoAllocations(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	frames := 0
	(*k.v.links.Load())[linkKey{vni, netip.MustParseAddr("127.0.0.1")}].Bind(func(f []ether.Frame) { frames += len(f) })
	raw, arena := k.v.receivers[0], k.arena
	long := packet{Payload: packets.Data(30000)}.super(t, 1000)
	long.Bytes()[15] = ether.ECT1 // and its checksum is wrong, as whatever came would be
	batch := []*ether.Frame{long, packet{Payload: packets.Data(100)}.frame(t)}
	sent, deadline := 0, time.Now().Add(time.Minute)
	n := testing.AllocsPerRun(100, func() {
		l.Send(batch)
		sent += 31
		for frames < sent && time.Now().Before(deadline) {
			if err := raw.Drain(arena); err != nil {
				t.Error(err)
				return
			}
		}
	})
	if frames != sent {
		t.Errorf("%d frames came, want %d", frames, sent)
	}
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Frames that leave by a group, and those of a host that is not known yet.
func TestGroupNoAllocations(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	group, err := v.Group(vni, Wire{}, netip.MustParseAddrPort("239.1.1.1:4789"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	group.Bind(func(f []ether.Frame) { frames += len(f) })
	stranger, err := listen(t, "127.0.0.2", 1).Link(vni, v.Local)
	if err != nil {
		t.Fatal(err)
	}
	raw, arena := v.receivers[0], make([]byte, recvMsgs*recvRoom)
	batch := []*ether.Frame{packet{Payload: packets.Data(100)}.frame(t)}
	sent, deadline := 0, time.Now().Add(time.Minute)
	n := testing.AllocsPerRun(100, func() {
		if sent, _ := group.Send(batch); sent != 1 {
			t.Errorf("not sent: %+v", group.Stats())
		}
		stranger.Send(batch)
		sent++
		for frames < sent && time.Now().Before(deadline) {
			if err := raw.Drain(arena); err != nil {
				t.Error(err)
				return
			}
		}
		group.strangers.n = 0 // it is new each time
	})
	if frames != sent || n != 0 {
		t.Errorf("%d frames came of %d, %v allocations", frames, sent, n)
	}
}
