package fault

import "testing"

func FuzzParse(f *testing.F) {
	for _, s := range []string{"2%", "0.02", "1e-3%", "-1%", "%", "10mbit", "0.5Gbit", "1e400kbit", "Infgbit", "5", "1e4", "nan"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := ParsePercent(s); err == nil && !(x >= 0 && x <= 1) {
			t.Errorf("%q is a share of %v", s, x)
		}
		if x, err := ParseRate(s); err == nil && (x < 0 || x > 1e12) {
			t.Errorf("%q is a rate of %d", s, x)
		}
		if x, err := ParseBurst(s); err == nil && !(x >= 1) {
			t.Errorf("%q is a burst of %v", s, x)
		}
	})
}
