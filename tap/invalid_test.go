package tap

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestWrongClaims: what a container with CAP_NET_RAW can claim in a virtio-net header. Nothing may panic;
// what arrives and passes Check cuts into a bounded number of frames; what must be refused is.
func TestWrongClaims(t *testing.T) {
	valid := func(t *testing.T) ([]byte, ether.Offload) {
		f := tcp(60000).super(t, 1448)
		return f.Bytes(), f.Off
	}
	type invalidFrame struct {
		name    string
		tell    func(b []byte, off *ether.Offload, raw *[2]byte) []byte // raw: flags and gso_type, if not zero
		refused bool                                                    // whatever comes through must not pass Check
		comes   bool                                                    // the kernel is known to let it through
	}
	same := func(fn func(b []byte, off *ether.Offload, raw *[2]byte)) func([]byte, *ether.Offload, *[2]byte) []byte {
		return func(b []byte, off *ether.Offload, raw *[2]byte) []byte { fn(b, off, raw); return b }
	}
	invalid := []invalidFrame{
		{"none", same(func([]byte, *ether.Offload, *[2]byte) {}), false, true},
		{"gso_size 1", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 1 }), true, true},
		{"gso_size 8", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 8 }), true, true},
		{"gso_size 16, of the smallest MTU", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 16 }), true, true},
		{"gso_size 234", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 234 }), true, true},
		{"gso_size 235, of which 60,000 bytes are 256", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 235 }), false, true},
		{"gso_size 0", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 0 }), true, false},
		{"gso_size 65535", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Segment = 65535 }), false, false},
		{"unknown type", same(func(_ []byte, _ *ether.Offload, raw *[2]byte) { raw[1] = 0x7f }), true, false},
		{"hdr_len beyond the frame", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Head = 65535 }), false, false},
		{"hdr_len 0", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Head = 0 }), false, true},
		{"TCPV4 with its sum done", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.PartialChecksum = false }), false, true},
		{"TCPV6 on IPv4", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Kind = ether.TCP6 }), true, false},
		{"UDP_L4 on TCP", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.Kind = ether.UDP }), true, false},
		{"UFO", same(func(_ []byte, _ *ether.Offload, raw *[2]byte) { raw[1] = 3 }), false, false},
		{"ECN", same(func(_ []byte, _ *ether.Offload, raw *[2]byte) { raw[1] = gsoTCPv4 | gsoECN }), false, true},
		{"flags 0xff", same(func(_ []byte, _ *ether.Offload, raw *[2]byte) { raw[0] = 0xff }), false, true},
		{"csum_start beyond the frame", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.ChecksumStart = 65535 }), false, false},
		{"csum_start 0", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.ChecksumStart = 0 }), false, false},
		{"csum_offset 65535", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { off.ChecksumOffset = 65535 }), false, false},
		{"NEEDS_CSUM on ARP", func(b []byte, off *ether.Offload, _ *[2]byte) []byte {
			*off = ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}
			b[12], b[13] = 8, 6
			return b[:42]
		}, false, false},
		{"IP total length 0", same(func(b []byte, _ *ether.Offload, _ *[2]byte) { b[16], b[17] = 0, 0 }), false, true},
		{"doff 15", same(func(b []byte, _ *ether.Offload, _ *[2]byte) { b[46] = 15<<4 | b[46]&15 }), false, true},
		{"doff 0", same(func(b []byte, _ *ether.Offload, _ *[2]byte) { b[46] &= 15 }), true, false},
		{"ihl 15", same(func(b []byte, _ *ether.Offload, _ *[2]byte) { b[14] = 0x4f }), false, false},
		{"jumbo", same(func(_ []byte, off *ether.Offload, _ *[2]byte) { *off = ether.Offload{} }), false, false},
		{"13 bytes", func(b []byte, off *ether.Offload, _ *[2]byte) []byte { *off = ether.Offload{}; return b[:13] }, true, false},
		{"14 bytes", func(b []byte, off *ether.Offload, _ *[2]byte) []byte { *off = ether.Offload{}; return b[:14] }, false, false},
		{"1 byte", func(b []byte, off *ether.Offload, _ *[2]byte) []byte { *off = ether.Offload{}; return b[:1] }, true, false},
	}
	for _, l := range invalid {
		t.Run(l.name, func(t *testing.T) {
			d, w := port(t, Veth)
			c := caught(d)
			b, off := valid(t)
			var raw [2]byte
			b = l.tell(b, &off, &raw)
			header := make([]byte, vnetLen)
			encodeVnet(header, off)
			for i, v := range raw {
				if v != 0 {
					header[i] = v
				}
			}
			err := w.writeRaw(append(header, b...))
			// A valid frame behind it: what was there before it has come.
			last := packet{UDP: true, Payload: []byte("the last")}.frame(t)
			testhost.Must(t, w.write(ether.Offload{}, last.Bytes()))
			var came []ether.Frame
			for deadline := time.Now().Add(time.Minute); ; {
				if time.Now().After(deadline) {
					t.Fatal("the valid frame did not come")
				}
				came = append(came, c.drainFrames(t, d, 1)...)
				if n := len(came) - 1; string(came[n].Bytes()) == string(last.Bytes()) {
					came = came[:n]
					break
				}
			}
			if l.comes && len(came) == 0 {
				t.Logf("the kernel let nothing through: %v", err)
			}
			for i := range came {
				judge(t, d, &came[i], l.refused)
			}
			// And as if it had come: our own kernel's part is left out.
			f := ether.Lend(append(make([]byte, ether.Headroom), b...), decodeVnet(header))
			judge(t, d, &f, l.refused)
		})
	}
}

// judge checks a frame as the switch does, cuts what passes, and writes it back.
func judge(t *testing.T, d *Device, f *ether.Frame, refused bool) {
	t.Helper()
	err := f.Check()
	if err == nil && refused {
		t.Errorf("%+v, %d bytes, passes Check", f.Off, f.Len())
	}
	if err != nil {
		if !errors.Is(err, ether.ErrRunt) && !errors.Is(err, ether.ErrOffload) {
			t.Errorf("Check = %v", err)
		}
		return
	}
	if n := len(cut(f)); n > ether.MaxSegments {
		t.Errorf("%+v, %d bytes, cuts into %d", f.Off, f.Len(), n)
	}
	if sent, n := d.Send([]*ether.Frame{f, f}); sent > 2 || n != sent*f.Len() {
		t.Errorf("Send = %d, %d", sent, n)
	}
}

// TestVLAN: the kernel takes a tag out of the frame; what is read has it again, the sum's place moved.
func TestVLAN(t *testing.T) {
	d, w := port(t, Veth)
	c := caught(d)
	f := tcp(500).super(t, 0)
	b := append([]byte(nil), f.Bytes()[:12]...)
	b = binary.BigEndian.AppendUint16(b, 0x8100)
	b = binary.BigEndian.AppendUint16(b, 42)
	b = append(b, f.Bytes()[12:]...)
	off := ether.Offload{PartialChecksum: true, ChecksumStart: f.Off.ChecksumStart + 4, ChecksumOffset: f.Off.ChecksumOffset}
	testhost.Must(t, w.write(off, b))
	got := c.drainFrames(t, d, 1)[0]
	testhost.Must(t, got.Check())
	if string(got.Bytes()) != string(b) || got.Off != off {
		t.Errorf("%+v, %d bytes, want %+v, %d", got.Off, got.Len(), off, len(b))
	}
	if sent, _ := d.Send([]*ether.Frame{&got}); sent != 1 {
		t.Error("the tagged frame was refused")
	}
	await(t, w.fd)
	testhost.Must(t, unix.SetNonblock(w.fd, true))
}

// TestTaggedLengths: the kernel passes to a container what the switch lets through, and not a byte more: the link's MTU, an
// Ethernet header and a tag, and the outermost tag, which is not in the frame any more.
func TestTaggedLengths(t *testing.T) {
	d, w := port(t, Veth)
	for tags := range 3 {
		limit := 1450 + ether.HeaderLen + 4
		if tags > 0 {
			limit += 4
		}
		for more := range 2 {
			p := tcp(limit + more - 54 - 4*tags)
			f := p.frame(t)
			b := append([]byte(nil), f.WithHeadroom()[:ether.Headroom+12]...)
			for range tags {
				b = append(b, 0x81, 0, 0, 42)
			}
			f = ether.Lend(append(b, f.Bytes()[12:]...), ether.Offload{})
			if f.Len() != limit+more {
				t.Fatalf("%d bytes, want %d", f.Len(), limit+more)
			}
			if sent, _ := d.Send([]*ether.Frame{&f}); sent != 1 {
				t.Fatalf("%d tags, %d bytes: refused", tags, f.Len())
			}
			if more > 0 {
				w.quiet()
			} else {
				w.read()
			}
		}
	}
}
