package fabric

import (
	"bytes"
	"fmt"
	"math/bits"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fault"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// partialDatagram is a broadcast UDP datagram whose checksum the container's kernel left partial, and the same with the checksum complete.
func partialDatagram(src ether.MAC) (partial ether.Frame, complete []byte) {
	p := packets.Packet{UDP: true, SrcMAC: src, DstMAC: broadcast, Src: netip.AddrFrom4([4]byte(src[2:])), Dst: netip.MustParseAddr("10.77.0.255"), Payload: []byte("one frame for everybody")}
	partial = ether.Lend(append(make([]byte, ether.Headroom), p.Partial()...), ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6})
	return partial, p.Bytes()
}

// datagrams gives what IPv4 frames reach the container, without headroom, or the remote host, without VXLAN.
func (d *device) datagrams(t *testing.T, n int) (got [][]byte) {
	t.Helper()
	for limit := time.After(time.Minute); len(got) < n; {
		select {
		case b := <-d.out:
			if b[12] == 0x08 && b[13] == 0x00 {
				got = append(got, b)
			}
		case <-limit:
			t.Fatalf("%d frames of %d have come", len(got), n)
		}
	}
	return got
}

func (f *far) datagrams(t *testing.T, n int) (got [][]byte) {
	t.Helper()
	if err := f.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for len(got) < n {
		b := make([]byte, 2000)
		size, err := f.conn.Read(b)
		if err != nil {
			t.Fatalf("%d datagrams of %d have come: %v", len(got), n, err)
		}
		if size >= 22 && b[20] == 0x08 && b[21] == 0x00 {
			got = append(got, b[8:size])
		}
	}
	return got
}

// nothingElse checks that nothing more than expected has arrived.
func (d *device) nothingElse(t *testing.T) {
	t.Helper()
	for {
		select {
		case b := <-d.out:
			if b[12] == 0x08 && b[13] == 0x00 {
				t.Errorf("one frame too many: %x", b)
			}
		default:
			return
		}
	}
}

func (f *far) nothingElse(t *testing.T) {
	t.Helper()
	raw, err := f.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		var n int
		var got error
		// A Read whose deadline has passed would not look what is there.
		if err := raw.Control(func(fd uintptr) { n, _, got = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) }); err != nil {
			t.Fatal(err)
		}
		switch {
		case got == unix.EAGAIN:
			return
		case got == unix.EINTR:
		case got != nil:
			t.Fatal(got)
		case n >= 22 && b[20] == 0x08 && b[21] == 0x00:
			t.Errorf("one datagram too many: %x", b[8:n])
		}
	}
}

// A frame is flooded to containers and remote hosts, with a fault at one of them or at the sender: each gets the frame as its own
// faults change it, not as others' do, and the lent bytes stay unchanged.
func TestFloodedFrameIsLent(t *testing.T) {
	h := newHost(t)
	remotes := []*far{newFar(h, "127.0.0.2"), newFar(h, "127.0.0.3")}
	h.mustNetwork(wide(1, 80, "127.0.0.2", "127.0.0.3"))
	for i := 1; i <= 3; i++ {
		h.container(netID(1), ep(i))
	}
	type place interface {
		datagrams(t *testing.T, n int) [][]byte
		nothingElse(t *testing.T)
	}
	places := map[string]place{"127.0.0.2": remotes[0], "127.0.0.3": remotes[1], epID(2): h.m.dev(t, epID(2)), epID(3): h.m.dev(t, epID(3))}
	sender := h.m.dev(t, epID(1))

	for _, k := range []struct {
		name   string
		spec   fault.Spec
		copies int
	}{
		{"no fault", fault.Spec{}, 1},
		{"delay", fault.Spec{Delay: 5 * time.Millisecond}, 1},
		{"loss", fault.Spec{Loss: 1}, 0},
		{"duplicate", fault.Spec{Duplicate: 1}, 2},
		{"reorder", fault.Spec{Reorder: 1}, 1},
		{"corrupt", fault.Spec{Corrupt: 1}, 1},
		{"rate", fault.Spec{Rate: 100_000}, 1},
	} {
		for _, where := range []struct {
			name string
			d    Direction
		}{{"127.0.0.2", To}, {"127.0.0.3", To}, {epID(2), To}, {epID(3), To}, {epID(1), From}} {
			t.Run(fmt.Sprintf("%s %s %s", k.name, where.d, where.name[max(0, len(where.name)-9):]), func(t *testing.T) {
				if k.spec != (fault.Spec{}) {
					h.setFault(where.name, where.d, k.spec)
					defer h.clearFault(where.name, where.d, 1)
				}
				partial, complete := partialDatagram(ep(1).MAC)
				before := bytes.Clone(partial.Bytes())
				rx := h.countersOf(epID(1)).RxFrames
				sender.feedFrame(partial)
				for name, p := range places {
					want := complete
					if _, container := p.(*device); container {
						want = before // its kernel adds it up
					}
					copies, changed := 1, 0
					if where.name == name || where.d == From {
						if copies = k.copies; k.spec.Corrupt > 0 {
							changed, want = 1, complete
						}
					}
					for _, got := range p.datagrams(t, copies) {
						if n := bitsChanged(got, want); n != changed {
							t.Errorf("to %s: %d bits are not as sent, want %d\n%x, want\n%x", name, n, changed, got, want)
						}
					}
				}
				// The call has ended when the frame is counted.
				frames := max(1, uint64(k.copies))
				if where.d == To {
					frames = 1
				}
				testhost.Until(t, "counted", func() bool { return h.countersOf(epID(1)).RxFrames >= rx+frames })
				for _, p := range places {
					p.nothingElse(t)
				}
				if got := partial.Bytes(); !bytes.Equal(got, before) {
					t.Errorf("lent bytes were changed\n%x, were\n%x", got, before)
				}
			})
		}
	}
}

func bitsChanged(a, b []byte) (n int) {
	if len(a) != len(b) {
		return 8 * max(len(a), len(b))
	}
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}
