package spell

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"net", "net", 0}, {"", "net", 3}, {"net", "", 3},
		{"net", "nett", 1}, {"net", "nt", 1}, {"net", "nat", 1}, {"net", "nte", 1}, {"ab", "ba", 1},
		{"mtu", "utm", 2}, {"kitten", "sitting", 3}, {"abc", "xyz", 3},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"ports", "peers", "fdb", "status"}
	for arg, want := range map[string][]string{
		"prots": {"ports"}, "port": {"ports"}, "Status": {"status"}, "fbd": {"fdb"}, "db": {"fdb"}, "zzz": nil, "": nil, "pers": {"peers"},
	} {
		if got := Nearest(arg, words); !slices.Equal(got, want) {
			t.Errorf("nearest(%q) = %q, want %q", arg, got, want)
		}
	}
}
