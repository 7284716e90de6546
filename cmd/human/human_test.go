package human

import (
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9960: "10 kB", 999499: "999 kB", 999500: "1.0 MB", 1 << 63: "9.2 EB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[int64]string{0: "0s", 59: "59s", 60: "1m 0s", 3600: "1h 0m", 12000: "3h 20m", 86400: "1d 0h"} {
		if got := Age(s); got != want {
			t.Errorf("Age(%d) = %q, want %q", s, got, want)
		}
	}
	if got := Counts(map[string]uint64{"runt": 1, "mtu": 5, "spoofed": 1, "none": 0}); got != "mtu 5, runt 1, spoofed 1" {
		t.Errorf("Counts: %q", got)
	}
}

// The column of settings is there if a row has any.
func TestPrintSettings(t *testing.T) {
	for _, tc := range []struct {
		rows [][]string
		want string
	}{
		{nil, "A\n"},
		{[][]string{{"a", ""}, {"", ""}}, "A\na\n-\n"},
		{[][]string{{"a", ""}, {"b", "mss=auto"}}, "A  SETTINGS\na  -\nb  mss=auto\n"},
	} {
		var b strings.Builder
		if err := PrintSettings(&b, []string{"A", "SETTINGS"}, tc.rows); err != nil || b.String() != tc.want {
			t.Errorf("%v: %q, %v", tc.rows, b.String(), err)
		}
	}
}
