package tap

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// refusing has a Device's kernel refuse writes by their virtio-net header.
func refusing(d *Device, errno syscall.Errno, which func(off ether.Offload) bool) (refused *int) {
	refused = new(int)
	d.failWrite = func(_ int, b []byte) syscall.Errno {
		if !which(decodeVnet(b)) {
			return 0
		}
		*refused++
		return errno
	}
	return refused
}

func kindOf(p packet) ether.Kind {
	switch {
	case p.UDP:
		return ether.UDP
	case p.V6:
		return ether.TCP6
	}
	return ether.TCP4
}

// TestSuperRefused: what the kernel refuses as a super-frame, joined here or come whole, goes frame by frame: nothing is
// lost, doubled or out of order; this kind alone is not offered again, until Retry.
func TestSuperRefused(t *testing.T) {
	for _, k := range kinds {
		for _, whole := range []bool{false, true} {
			name := k.name + ", joined"
			if whole {
				name = k.name + ", whole"
			}
			t.Run(name, func(t *testing.T) {
				d, w := port(t, Direct)
				kind := kindOf(k.p)
				refused := refusing(d, syscall.EINVAL, func(off ether.Offload) bool { return off.Kind == kind })
				p := k.p
				p.Payload = packets.Data(10*1000 + 300)
				train, super := p.train(t, 1000), p.super(t, 1000)
				testhost.Must(t, super.Check())
				batch := train
				if whole {
					batch = []*ether.Frame{&super}
				}
				tail := packet{V6: !k.p.V6, Payload: packets.Data(99)}.frame(t)
				batch = append(append([]*ether.Frame{}, batch...), &tail)
				send := func() {
					t.Helper()
					bytesWant := 0
					for _, f := range batch {
						bytesWant += f.Len()
					}
					if sent, n := d.Send(batch); sent != len(batch) || n != bytesWant {
						t.Fatalf("Send = %d, %d, want %d, %d", sent, n, len(batch), bytesWant)
					}
				}
				one := func() {
					t.Helper()
					for i, want := range append(append([]*ether.Frame{}, train...), &tail) {
						off, got := w.read()
						if off.Kind != ether.None || !bytes.Equal(got, want.Bytes()) {
							t.Fatalf("frame %d: %+v, %d bytes that are not the %d wanted", i, off, len(got), want.Len())
						}
					}
					w.quiet()
				}
				send()
				one()
				s := d.Offload(kind)
				if !errors.Is(s.Why, syscall.EINVAL) || s.Refused != 1 || s.Resent != 11 || s.Blocked || *refused != 1 {
					t.Errorf("%+v after %d refusals, want EINVAL, one refused, 11 sent again", s, *refused)
				}
				for other := ether.None; other <= ether.UDP; other++ {
					if s := d.Offload(other); other != kind && s.Why != nil {
						t.Errorf("%s is off as well: %v", other, s.Why)
					}
				}
				send() // without asking
				one()
				if *refused != 1 || d.Offload(kind).Refused != 1 {
					t.Errorf("the kernel was asked %d times, want once", *refused)
				}
				d.failWrite = nil
				d.Retry()
				send()
				if off, _ := w.read(); off.Kind != kind {
					t.Errorf("%+v came, want a super-frame again", off)
				}
				w.read()
				if s := d.Offload(kind); s.Why != nil || s.Refused != 1 {
					t.Errorf("%+v after Retry, want it on", s)
				}
			})
		}
	}
}

// TestChecksumRefused: a checksum that the kernel refuses to complete is completed here.
func TestChecksumRefused(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, w := port(t, Veth)
			refused := refusing(d, syscall.EINVAL, func(off ether.Offload) bool { return off.PartialChecksum })
			p := k.p
			p.Payload = packets.Data(700)
			want := p.frame(t)
			for range 2 {
				f := p.super(t, 0)
				f.Off.Kind, f.Off.Head = ether.None, 0
				lent, off := bytes.Clone(f.WithHeadroom()), f.Off
				defer func() {
					if !bytes.Equal(f.WithHeadroom(), lent) || f.Off != off {
						t.Error("Send wrote into the lent frame")
					}
				}()
				if sent, n := d.Send([]*ether.Frame{&f}); sent != 1 || n != want.Len() {
					t.Fatalf("Send = %d, %d", sent, n)
				}
				if off, got := w.read(); off != (ether.Offload{}) || !bytes.Equal(got, want.Bytes()) {
					t.Errorf("%+v, %d bytes that are not the frame with its checksum complete", off, len(got))
				}
			}
			w.quiet()
			if s := d.Offload(ether.None); !errors.Is(s.Why, syscall.EINVAL) || s.Refused != 1 || s.Resent != 1 || *refused != 1 {
				t.Errorf("%+v after %d refusals", s, *refused)
			}
			if s := d.Offload(kindOf(k.p)); s.Why != nil {
				t.Errorf("super-frames are off as well: %v", s.Why)
			}
		})
	}
}

// TestRefusedForNow: errors that say nothing about the offload leave it on. Want of memory for the whole is met by
// pieces; a TAP that is down or full takes no pieces either.
func TestRefusedForNow(t *testing.T) {
	for _, tt := range []struct {
		errno  syscall.Errno
		pieces bool
	}{{syscall.ENOMEM, true}, {syscall.ENOBUFS, true}, {syscall.EMSGSIZE, true}, {syscall.EIO, false}, {syscall.EAGAIN, false}, {syscall.EBADFD, false}} {
		t.Run(tt.errno.Error(), func(t *testing.T) {
			d, w := port(t, Direct)
			refusing(d, tt.errno, func(off ether.Offload) bool { return off.Kind != ether.None })
			super := packet{Payload: packets.Data(5000)}.super(t, 1000)
			testhost.Must(t, super.Check())
			if sent, _ := d.Send([]*ether.Frame{&super}); sent == 1 != tt.pieces {
				t.Errorf("%d super-frames went", sent)
			}
			for range 5 * max(0, d.Offload(ether.TCP4).Resent/5) {
				w.read()
			}
			w.quiet()
			if s := d.Offload(ether.TCP4); s.Why != nil || s.Resent != 5 && tt.pieces || s.Resent != 0 && !tt.pieces {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRefusedByContent: this kernel takes no more than 128 datagrams as one; that is no reason to make none.
func TestRefusedByContent(t *testing.T) {
	d, w := port(t, Direct)
	if _, udp := d.Offloads(); !udp {
		testhost.Cannot(t, "the kernel's TAP does not segment UDP")
	}
	p := packet{UDP: true, Payload: packets.Data(20000)}
	super, want := p.super(t, 100), p.train(t, 100)
	testhost.Must(t, super.Check())
	if sent, _ := d.Send([]*ether.Frame{&super}); sent != 1 {
		t.Fatal("refused")
	}
	for i := range want {
		if _, got := w.read(); !bytes.Equal(got, want[i].Bytes()) {
			t.Fatalf("datagram %d is not what was sent", i)
		}
	}
	w.quiet()
	if s := d.Offload(ether.UDP); s.Why != nil || s.Refused != 1 || s.Resent != 200 {
		t.Errorf("%+v, want one refused, 200 sent again, and it is on", s)
	}
}

// TestUnavailable: an offload that the kernel did not support at the start is not tried, not by Retry either.
func TestUnavailable(t *testing.T) {
	d, w := port(t, Direct)
	d.offloads = 0
	d.disableUnsupported()
	asked := refusing(d, syscall.EINVAL, func(off ether.Offload) bool { return off.Kind != ether.None })
	d.Retry()
	for _, k := range kinds {
		if s := d.Offload(kindOf(k.p)); !errors.Is(s.Why, offload.ErrUnsupported) || !s.Blocked {
			t.Errorf("%s: %+v", k.name, s)
		}
		p := k.p
		p.Payload = packets.Data(3000)
		super := p.super(t, 1000)
		testhost.Must(t, super.Check())
		if sent, _ := d.Send([]*ether.Frame{&super}); sent != 1 {
			t.Errorf("%s: refused", k.name)
		}
		for _, want := range p.train(t, 1000) {
			if _, got := w.read(); !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%s: a segment is not what was sent", k.name)
			}
		}
	}
	if *asked != 0 {
		t.Errorf("%d super-frames were offered", *asked)
	}
}
