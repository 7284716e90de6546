package tap

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// inTunnel is p's super-frame within VXLAN, over IPv4 or IPv6, as the kernel of a container with a VXLAN device leaves it.
func (p packet) inTunnel(t testing.TB, segment int, v6, sum bool) ether.Frame {
	t.Helper()
	inner := p.super(t, segment)
	vxlan := []byte{8, 0, 0, 0, 0, 0, 9, 0}
	outer := packet{V6: v6, UDP: true, Payload: append(vxlan, inner.Bytes()...)}
	f := outer.super(t, segment)
	l4, _ := packets.Packet(outer).Layout()
	head := packets.Packet(outer).HeadLen()
	if !sum {
		binary.BigEndian.PutUint16(f.Bytes()[l4+6:], 0)
	}
	at := uint16(head + len(vxlan))
	f.Off = inner.Off
	f.Off.Kind = inner.Off.Kind.InTunnel()
	f.Off.Head += at
	f.Off.ChecksumStart += at
	f.Off.Outer, f.Off.Inner = uint16(l4), at+ether.HeaderLen
	testhost.Must(t, f.Check())
	return f
}

// TestVnetTunnel: struct virtio_net_hdr_v1_hash_tunnel, written and read.
func TestVnetTunnel(t *testing.T) {
	for _, tt := range []struct {
		name       string
		v6, sum    bool
		flags, typ byte // beside the inner kind's
	}{
		{"IPv4, no checksum", false, false, 1, 0x20},
		{"IPv4", false, true, 9, 0x20},
		{"IPv6", true, true, 9, 0x40},
	} {
		for _, k := range kinds {
			p := k.p
			p.Payload = packets.Data(3000)
			f := p.inTunnel(t, 1000, tt.v6, tt.sum)
			b := bytes.Repeat([]byte{0xee}, vnetTunnelLen)
			encodeVnet(b, f.Off)
			encodeTunnel(b, &f)
			want := []byte{tt.flags, tt.typ | map[ether.Kind]byte{ether.TCP4: 1, ether.TCP6: 4, ether.UDP: 5}[kindOf(k.p)]}
			for _, v := range []uint16{f.Off.Head, 1000, f.Off.ChecksumStart, f.Off.ChecksumOffset} {
				want = native.AppendUint16(want, v)
			}
			want = append(want, make([]byte, 10)...)
			want = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(want, f.Off.Outer), f.Off.Inner)
			if !bytes.Equal(b, want) {
				t.Errorf("%s, %s: %x, want %x", tt.name, k.name, b, want)
			}
			if got := decodeVnet(b); got != f.Off {
				t.Errorf("%s, %s: read %+v, want %+v", tt.name, k.name, got, f.Off)
			}
			if got := decodeVnet(b[:vnetLen]); got.Kind < ether.Kinds {
				t.Errorf("%s, %s: the short header says %v", tt.name, k.name, got.Kind)
			}
		}
	}
}

// TestSendTunnel: a super-frame within a tunnel goes as one where the kernel takes it, and else as its segments.
func TestSendTunnel(t *testing.T) {
	for _, mode := range []Mode{Veth, Direct} {
		for _, v6 := range []bool{false, true} {
			for _, k := range kinds {
				d, w := port(t, mode)
				p := k.p
				p.Payload = packets.Data(9500)
				f := p.inTunnel(t, 1000, v6, true)
				kind := f.Off.Kind
				if d.offloads&tunnels == 0 {
					if s := d.Offload(kind); s.Why == nil {
						t.Errorf("%v is on, although this kernel does not support it", kind)
					}
				} else {
					if sent, n := d.Send([]*ether.Frame{&f}); sent != 1 || n != f.Len() {
						t.Fatalf("%s, %v: Send = %d, %d", mode, kind, sent, n)
					}
					if s := d.Offload(kind); s.Why != nil || s.Resent != 0 {
						t.Fatalf("%s, %v: the kernel refused it: %+v", mode, kind, s)
					}
					if off, got := w.read(); off.Segment != 1000 || !bytes.Equal(got, f.Bytes()) {
						t.Errorf("%s, %v: %+v, %d bytes that are not the %d sent", mode, kind, off, len(got), f.Len())
					}
				}
				d.feature(kind).Disable(unix.EINVAL)
				if sent, _ := d.Send([]*ether.Frame{&f}); sent != 1 {
					t.Fatalf("%s, %v: not sent in segments", mode, kind)
				}
				for i, want := range cut(&f) {
					off, got := w.read()
					if off != (ether.Offload{}) || !bytes.Equal(got, want) {
						t.Errorf("%s, %v: segment %d: %+v, %d bytes that are not the %d", mode, kind, i, off, len(got), len(want))
					}
					sumsRight(t, got)
					sumsRight(t, got[f.Off.Inner-ether.HeaderLen:])
				}
				w.quiet()
			}
		}
	}
}
