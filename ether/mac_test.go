package ether

import "testing"

func TestMACText(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want string // "" for an error
	}{
		{"02:42:0a:4d:00:02", "02:42:0a:4d:00:02"},
		{"02-42-0A-4D-00-02", "02:42:0a:4d:00:02"},
		{"0242.0a4d.0002", "02:42:0a:4d:00:02"},
		{"02:42:0a:4d:00", ""},
		{"02:42:0a:4d:00:02:00:01", ""}, // EUI-64
		{"", ""},
	} {
		var m MAC
		err := m.UnmarshalText([]byte(tc.in))
		if tc.want == "" {
			if err == nil || !m.IsZero() {
				t.Errorf("%q: got %v, %v; want an error", tc.in, m, err)
			}
		} else if err != nil || m.String() != tc.want {
			t.Errorf("%q: got %v, %v; want %s", tc.in, m, err, tc.want)
		}
	}
}

func TestMACGroup(t *testing.T) {
	for in, want := range map[string]bool{
		"ff:ff:ff:ff:ff:ff": true,
		"33:33:00:00:00:01": true,
		"01:80:c2:00:00:00": true,
		"02:42:0a:4d:00:02": false,
		"00:00:00:00:00:00": false,
	} {
		m, err := ParseMAC(in)
		if err != nil || m.Group() != want {
			t.Errorf("%s: group %v, %v; want %v", in, m.Group(), err, want)
		}
	}
}
