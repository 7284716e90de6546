package vlan

import (
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][]uint16{"10": {10}, "4094": {4094}, "trunk:10,20-22": {10, 20, 21, 22}, "trunk:0": {0}, "trunk:0,4090-4094": {0, 4090, 4091, 4092, 4093, 4094}, "trunk:7-7": {7}, "trunk:7+9-10,12": {7, 9, 10, 12}} {
		s, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var got []uint16
		for id := range uint16(4096) {
			if s.VLANs.Has(id) {
				got = append(got, id)
			}
		}
		if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] || (s.Access != 0) != (text[0] != 't') {
			t.Errorf("%s: %v, access %d", text, got, s.Access)
		}
	}
	for _, text := range []string{"", "0", "4095", "65536", "-1", "+1", "x", "10,20", "trunk", "trunk:", "trunk:4095", "trunk:20-10", "trunk:1-", "trunk:-1", "trunk:1,,2", "trunk:1+", "trunk:+1", "access:1", " 1"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Whatever text: no panic, and at most all VLANs.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"10", "trunk:10,20-30", "trunk:0-4094", "trunk:1-2-3", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse(text); err == nil && (s.VLANs.Has(4095) || s.Access > 4094) {
			t.Errorf("%q: %+v", text, s)
		}
	})
}
