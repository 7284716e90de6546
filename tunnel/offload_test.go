package tunnel

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func isTrain(h *mmsghdr) bool { return h.hdr.Controllen > 0 }

// refusing lets the kernel have the messages before the first that which names, and refuses that one.
func refusing(v *VTEP, errno syscall.Errno, which func(h *mmsghdr) bool) (refused *int) {
	refused = new(int)
	v.failSend = func(hdrs []mmsghdr) (int, syscall.Errno) {
		for i := range hdrs {
			if which(&hdrs[i]) {
				if i == 0 {
					*refused++
				}
				return i, errno
			}
		}
		return len(hdrs), 0
	}
	return refused
}

// batch is two flows: single frames and trains in turn, that stay apart.
func batch(t *testing.T) (frames []*ether.Frame, want [][]byte, trains int) {
	t.Helper()
	for i := range 6 {
		f := packet{UDP: true, ID: uint16(i), Payload: packets.Data(10 + i)}.frame(t)
		p := packet{UDP: true, TCP: layers.TCP{Seq: uint32(i * 5500)}, ID: uint16(100 * i), Payload: packets.Data(5500)}
		frames = append(frames, f, p.super(t, 1000))
		want = append(append(want, room(f)), p.segments(t, 1000)...)
	}
	return frames, want, 6
}

// TestSendErrors: of each error of sendmmsg(2) on a train, nothing is lost that could be sent, nothing is sent twice,
// order stays, and trains go on being made unless it was the train as such that was refused.
func TestSendErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		errno syscall.Errno
		off   bool // trains as such are refused
		stats LinkStats
	}{
		{"EIO, the device cannot sum", syscall.EIO, true, LinkStats{}},
		{"EINVAL, the route cannot segment", syscall.EINVAL, true, LinkStats{}},
		{"EMSGSIZE, though each datagram goes", syscall.EMSGSIZE, true, LinkStats{}},
		{"ENOBUFS", syscall.ENOBUFS, false, LinkStats{Full: 36}},
		{"EAGAIN", syscall.EAGAIN, false, LinkStats{Full: 36}},
		{"EPERM, a firewall", syscall.EPERM, false, LinkStats{Failed: 36}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, k := pair(t, "127.0.0.1", "127.0.0.2")
			refused := refusing(l.v, tt.errno, isTrain)
			frames, want, trains := batch(t)
			sent, _ := l.Send(frames)
			if tt.off {
				if sent != len(frames) {
					t.Errorf("%d of %d went", sent, len(frames))
				}
				same(t, k.drainFrames(t, len(want)), want)
			} else {
				if sent != len(frames)/2 {
					t.Errorf("%d of %d went, want the single ones", sent, len(frames))
				}
				var singles [][]byte
				for _, b := range want {
					if len(b) < 500 {
						singles = append(singles, b)
					}
				}
				same(t, k.drainFrames(t, len(singles)), singles)
			}
			s := l.Stats()
			if s.Full != tt.stats.Full || s.Long != 0 || s.Failed != tt.stats.Failed {
				t.Errorf("%+v, want %+v", s, tt.stats)
			}
			if !tt.off {
				if s.GSO.Why != nil || s.GSO.Refused != 0 {
					t.Errorf("trains are off: %+v", s.GSO)
				}
				return
			}
			if !errors.Is(s.GSO.Why, tt.errno) || s.GSO.Blocked || s.GSO.Refused != uint64(trains) || s.GSO.Resent != 36 {
				t.Errorf("%+v", s.GSO)
			}
			*refused = 0
			if sent, _ := l.Send(frames); sent != len(frames) || *refused != 0 {
				t.Errorf("%d went, and %d trains were tried again", sent, *refused)
			}
			same(t, k.drainFrames(t, len(want)), want)
			l.v.failSend = nil
			l.Retry()
			if sent, _ := l.Send(frames); sent != len(frames) || l.Stats().GSO.Why != nil {
				t.Errorf("after Retry: %d went, %+v", sent, l.Stats().GSO)
			}
			same(t, k.drainFrames(t, len(want)), want)
		})
	}
}

// TestSendPartly: the kernel takes a part of what it is given, and what it took is not sent again.
func TestSendPartly(t *testing.T) {
	for _, most := range []int{1, 2, 5} {
		l, k := pair(t, "127.0.0.1", "127.0.0.2")
		l.v.failSend = func(hdrs []mmsghdr) (int, syscall.Errno) { return min(most, len(hdrs)), 0 }
		frames, want, _ := batch(t)
		if sent, _ := l.Send(frames); sent != len(frames) {
			t.Errorf("%d at once: %d of %d went", most, sent, len(frames))
		}
		same(t, k.drainFrames(t, len(want)), want)
		if s := l.Stats(); s.WireTx != uint64(len(want)) || s.GSO.Why != nil {
			t.Errorf("%d at once: %+v", most, s)
		}
	}
}

// TestSingleRefused: a datagram by itself that is refused says nothing about trains, whatever the error.
func TestSingleRefused(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EINVAL} {
		l, k := pair(t, "127.0.0.1", "127.0.0.2")
		refusing(l.v, errno, func(h *mmsghdr) bool { return !isTrain(h) })
		frames, _, _ := batch(t)
		if sent, _ := l.Send(frames); sent != len(frames)/2 {
			t.Errorf("%v: %d of %d went, want the trains", errno, sent, len(frames))
		}
		k.drainFrames(t, 36)
		if s := l.Stats(); s.GSO.Why != nil || s.Failed != 6 {
			t.Errorf("%v: %+v", errno, s)
		}
	}
}

// TestRefusedAlone: one link's refusal is not another's.
func TestRefusedAlone(t *testing.T) {
	l, _ := pair(t, "127.0.0.1", "127.0.0.2")
	other, err := l.v.Link(81, at("127.0.0.3"))
	testhost.Must(t, err)
	refusing(l.v, syscall.EIO, isTrain)
	frames, _, _ := batch(t)
	l.Send(frames)
	if l.Stats().GSO.Why == nil || other.Stats().GSO.Why != nil {
		t.Errorf("%+v, %+v", l.Stats(), other.Stats())
	}
}

// TestNoTrains: a kernel that has no UDP_SEGMENT or no UDP_GRO.
func TestNoTrains(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	l.v.gso = false
	refused := refusing(l.v, syscall.EINVAL, isTrain)
	old, err := l.v.Link(81, at("127.0.0.2"))
	testhost.Must(t, err)
	old.Retry()
	if s := old.Stats().GSO; !errors.Is(s.Why, offload.ErrUnsupported) {
		t.Errorf("%+v", s)
	}
	kk, _ := caught(t, k.v, 81, "127.0.0.1")
	frames, want, _ := batch(t)
	if sent, _ := old.Send(frames); sent != len(frames) || *refused != 0 {
		t.Errorf("%d of %d went, %d trains were tried", sent, len(frames), *refused)
	}
	same(t, kk.drainFrames(t, len(want)), want)

	if s := l.v.GRO(); s.Why != nil {
		t.Errorf("%+v", s)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // takes no option of a socket's
	testhost.Must(t, err)
	defer unix.Close(fd)
	l.v.enableGRO(fd)
	if s := l.v.GRO(); !errors.Is(s.Why, offload.ErrUnsupported) || !errors.Is(s.Why, unix.ENOTSOCK) {
		t.Errorf("%+v", s)
	}
}
