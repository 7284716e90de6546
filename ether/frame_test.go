package ether

import "testing"

func TestLend(t *testing.T) {
	for n := range Headroom + 3 {
		room := make([]byte, n)
		f := Lend(room, Offload{})
		if want := max(0, n-Headroom); f.Len() != want || len(f.Bytes()) != want || len(f.WithHeadroom()) != n {
			t.Errorf("room of %d bytes: frame %d, Bytes %d, WithHeadroom %d; want %d, %d, %d",
				n, f.Len(), len(f.Bytes()), len(f.WithHeadroom()), want, want, n)
		}
	}
	var zero Frame
	if zero.Len() != 0 || zero.Bytes() != nil || zero.Type() != 0 || zero.Check() != ErrRunt {
		t.Error("the zero Frame is not an empty frame")
	}
}

func TestAddressesAndType(t *testing.T) {
	head := append(macB[:], macA[:]...)
	for _, tc := range []struct {
		name string
		rest []byte
		want uint16
	}{
		{"IPv4", []byte{0x08, 0x00}, 0x0800},
		{"LLC length", []byte{0x00, 0x26, 0x42}, 0x0026},
		{"tagged", []byte{0x81, 0x00, 0, 5, 0x86, 0xdd}, 0x86dd},
		{"two tags", []byte{0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x08, 0x06}, 0x0806},
		{"three tags", []byte{0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x81, 0x00, 0, 7, 0x08, 0x00}, 0x8100},
		{"0x9100 is opaque", []byte{0x91, 0x00, 0, 5, 0x08, 0x00}, 0x9100},
		{"tag without type", []byte{0x81, 0x00, 0, 5}, 0},
		{"tag with half a type", []byte{0x81, 0x00, 0, 5, 0x08}, 0},
		{"half a second tag", []byte{0x81, 0x00, 0, 5, 0x81, 0x00, 0}, 0},
		{"half a type", []byte{0x08}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := lend(append(append([]byte{}, head...), tc.rest...), Offload{})
			if f.Type() != tc.want {
				t.Errorf("type %#04x, want %#04x", f.Type(), tc.want)
			}
			if f.Len() >= HeaderLen && (f.Dst() != macB || f.Src() != macA) {
				t.Errorf("%v to %v, want %v to %v", f.Src(), f.Dst(), macA, macB)
			}
		})
	}
}

func TestWireLen(t *testing.T) {
	ordinary := stream(1000).frame(t)
	super := stream(5000).super(t, 1398)
	short := stream(1000).super(t, 1398) // one segment, not full
	for _, tc := range []struct {
		name string
		f    Frame
		want int
	}{
		{"ordinary", ordinary, 66 + 1000},
		{"super", super, 66 + 1398},
		{"one segment", short, 66 + 1000},
		{"empty", Frame{}, 0},
	} {
		if got := tc.f.WireLen(); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestOuterTag(t *testing.T) {
	for _, tc := range []struct {
		behind []byte // the addresses
		want   int
	}{{[]byte{8, 0, 0x45, 0}, 0}, {[]byte{0x81, 0, 0, 5, 8, 0}, 4}, {[]byte{0x88, 0xa8, 0, 5, 0x81, 0, 0, 5, 8, 0}, 4}, {[]byte{0x81, 0}, 4},
		{[]byte{0x81}, 0}, {nil, 0}} {
		f := lend(append(make([]byte, 12), tc.behind...), Offload{})
		if got := f.OuterTag(); got != tc.want {
			t.Errorf("%x: %d bytes, want %d", tc.behind, got, tc.want)
		}
	}
	if none := (Frame{}); none.OuterTag() != 0 {
		t.Error("no frame has a tag")
	}
}

func TestSameWay(t *testing.T) {
	a := stream(10).frame(t)
	for at := range a.Len() {
		b := lend(a.Bytes(), Offload{})
		b.Bytes()[at] ^= 1
		if got, want := a.SameAddresses(&b), at >= 12; got != want {
			t.Errorf("byte %d changed: %v, want %v", at, got, want)
		}
	}
	short := lend(a.Bytes()[:HeaderLen-1], Offload{})
	if a.SameAddresses(&short) || short.SameAddresses(&a) || short.SameAddresses(&short) {
		t.Error("a runt is on its way")
	}
}
