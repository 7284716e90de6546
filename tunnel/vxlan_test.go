package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestTemplate: RFC 7348 section 5, byte for byte, and gopacket reads it back.
func TestTemplate(t *testing.T) {
	for vni, want := range map[uint32][]byte{
		1:            {8, 0, 0, 0, 0, 0, 1, 0},
		80:           {8, 0, 0, 0, 0, 0, 80, 0},
		0x123456:     {8, 0, 0, 0, 0x12, 0x34, 0x56, 0},
		ether.MaxVNI: {8, 0, 0, 0, 0xff, 0xff, 0xff, 0},
	} {
		h, err := template(vni)
		testhost.Must(t, err)
		if !bytes.Equal(h[:], want) {
			t.Errorf("VNI %d: %x, want %x", vni, h, want)
		}
		vx, ok := gopacket.NewPacket(h[:], layers.LayerTypeVXLAN, gopacket.Default).Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok || vx.VNI != vni || !vx.ValidIDFlag || vx.GBPExtension {
			t.Errorf("VNI %d: gopacket reads %+v", vni, vx)
		}
	}
	if _, err := template(ether.MaxVNI + 1); err == nil {
		t.Error("a VNI of 25 bits has a header")
	}
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want dropReason
		vni  uint32
	}{
		{"empty", nil, short, 0},
		{"seven bytes", []byte{8, 0, 0, 0, 0, 0, 1}, short, 0},
		{"header only", []byte{8, 0, 0, 0, 0, 0, 1, 0}, accepted, 1},
		{"largest VNI", []byte{8, 0, 0, 0, 0xff, 0xff, 0xff, 0}, accepted, ether.MaxVNI},
		{"VNI 0", []byte{8, 0, 0, 0, 0, 0, 0, 0}, accepted, 0},
		{"I flag clear", []byte{0, 0, 0, 0, 0, 0, 1, 0}, badHeader, 0},
		{"every flag but I", []byte{0xf7, 0xff, 0xff, 0xff, 0, 0, 1, 0xff}, badHeader, 0},
		{"reserved bits set", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0xff}, accepted, 1},
	}
	for bit := range 64 { // each reserved bit by itself is ignored
		b := []byte{8, 0, 0, 0, 0, 0, 1, 0}
		if bit == 4 || bit >= 32 && bit < 56 {
			continue // I and the VNI
		}
		b[bit/8] |= 0x80 >> (bit % 8)
		tests = append(tests, struct {
			name string
			in   []byte
			want dropReason
			vni  uint32
		}{"reserved bit", b, accepted, 1})
	}
	for _, tt := range tests {
		var vx layers.VXLAN
		if got := decode(tt.in, &vx); got != tt.want || got == accepted && vx.VNI != tt.vni {
			t.Errorf("%s, %x: %s, VNI %d, want %s, %d", tt.name, tt.in, dropReasonNames[got], vx.VNI, dropReasonNames[tt.want], tt.vni)
		}
	}
}

func TestSegments(t *testing.T) {
	b := packets.Data(10)
	for _, tt := range []struct {
		name string
		size int
		want []int
	}{
		{"not a train", 0, []int{10}}, {"negative", -5, []int{10}}, {"equal", 5, []int{5, 5}}, {"last shorter", 4, []int{4, 4, 2}},
		{"one byte each", 1, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}, {"as long as all", 10, []int{10}}, {"longer than all", 1 << 30, []int{10}},
	} {
		s := segments{b, tt.size}
		var got []byte
		for i := 0; len(s.rest) > 0; i++ {
			d := s.next()
			if i >= len(tt.want) || len(d) != tt.want[i] || cap(d) != len(d) {
				t.Fatalf("%s: datagram %d has %d bytes and room for %d, want %v", tt.name, i, len(d), cap(d), tt.want)
			}
			got = append(got, d...)
		}
		if !bytes.Equal(got, b) {
			t.Errorf("%s: the datagrams make %x", tt.name, got)
		}
	}
}

// cmsg is one control message, padded.
func cmsg(length uint64, level, typ uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint64(nil, length)
	b = binary.NativeEndian.AppendUint32(b, level)
	b = binary.NativeEndian.AppendUint32(b, typ)
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&7)...)
}

func TestReadControl(t *testing.T) {
	size := binary.NativeEndian.AppendUint32(nil, 1450)
	gro := cmsg(20, 17, 104, size...)
	for _, tt := range []struct {
		name string
		in   []byte
		want received
	}{
		{"a class", cmsg(17, 0, 1, 0xb9), received{class: 0xb9}},
		{"a class of IPv6", cmsg(20, 41, 67, 0xb9, 0, 0, 0), received{class: 0xb9}},
		{"no class", append(cmsg(16, 0, 1), cmsg(19, 41, 67, 1, 2, 3)...), received{}},
		{"fragments", append(cmsg(20, 0, 25, size...), gro...), received{size: 1450, fragmented: true}},
		{"fragments of IPv6", append(cmsg(20, 41, 77, size...), cmsg(20, 41, 67, 3, 0, 0, 0)...), received{class: 3, fragmented: true}},
	} {
		if got := readControl(tt.in); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	tests := []struct {
		name string
		in   []byte
		want int
	}{
		{"none", nil, 0},
		{"a train", gro, 1450},
		{"cut before its end", gro[:20], 1450},
		{"cut in the value", gro[:18], 0},
		{"cut in the head", gro[:15], 0},
		{"behind another", append(cmsg(24, 0, 1, make([]byte, 8)...), gro...), 1450},
		{"behind an odd one", append(cmsg(17, 0, 1, 7), gro...), 1450},
		{"another level", cmsg(20, 1, 104, size...), 0},
		{"another type", cmsg(20, 17, 103, size...), 0},
		{"length 0", cmsg(0, 17, 104, size...), 0},
		{"length below the head's", cmsg(15, 17, 104, size...), 0},
		{"no value", cmsg(16, 17, 104), 0},
		{"half a value", cmsg(18, 17, 104, 1, 2), 0},
		{"longer than what there is", cmsg(4096, 17, 104, size...), 0},
		{"longest", cmsg(1<<64-1, 17, 104, size...), 0},
		{"negative", cmsg(20, 17, 104, 0xff, 0xff, 0xff, 0xff), -1},
	}
	for _, tt := range tests {
		if got := readControl(tt.in).size; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestOverhead(t *testing.T) {
	if Overhead(false) != 50 || Overhead(true) != 70 {
		t.Errorf("overhead %d and %d, RFC 7348 makes it 50 and 70", Overhead(false), Overhead(true))
	}
}

// FuzzDatagram: whatever comes in, with whatever the kernel says about it, is split whole and read without panic.
func FuzzDatagram(f *testing.F) {
	h, err := template(80)
	testhost.Must(f, err)
	frame := append(h[:], packets.Data(60)...)
	gro := func(n uint32) []byte { return cmsg(20, 17, 104, binary.NativeEndian.AppendUint32(nil, n)...) }
	f.Add(frame, []byte(nil))
	f.Add(bytes.Repeat(frame, 5), gro(68))
	f.Add(bytes.Repeat(frame, 5)[:300], gro(68))
	f.Add(frame, gro(1))
	f.Add(frame, gro(1<<31))
	f.Add([]byte{8, 0, 0}, gro(8))
	f.Add(frame, gro(68)[:17])
	f.Add([]byte(nil), cmsg(1<<63, 17, 104))
	f.Add(frame, append(cmsg(17, 0, 1, 3), gro(68)...))
	f.Add(frame, append(cmsg(20, 41, 67, 3, 0, 0, 0), cmsg(20, 41, 77, 0, 5, 0, 0)...))
	f.Fuzz(func(t *testing.T, train, control []byte) {
		s := segments{train, readControl(control).size}
		var vx layers.VXLAN
		var all []byte
		for len(s.rest) > 0 {
			d := s.next()
			if len(d) == 0 {
				t.Fatal("an empty datagram: this would never end")
			}
			switch why := decode(d, &vx); {
			case (why == short) != (len(d) < headerLen):
				t.Fatalf("%d bytes are %s", len(d), dropReasonNames[why])
			case why == accepted && (vx.VNI > ether.MaxVNI || vx.VNI != binary.BigEndian.Uint32(d[4:])>>8 || d[0]&flagI == 0):
				t.Fatalf("%x read as VNI %d", d[:headerLen], vx.VNI)
			}
			all = append(all, d...)
		}
		if !bytes.Equal(all, train) {
			t.Fatal("the datagrams are not the train")
		}
	})
}
