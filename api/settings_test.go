package api

import "testing"

// What differs from the defaults is shown as its option.
func TestSettingsText(t *testing.T) {
	for want, s := range map[string]Settings{
		"":                                   {Guard: "full", Storm: DefaultStorm, MSS: "off"},
		"guard=off storm=off mss=auto":       {Guard: "off", MSS: "auto"},
		"allow=ra+dhcp rate=100mbit storm=7": {Guard: "full", Allow: []string{"ra", "dhcp"}, Rate: 1e8, Storm: 7, MSS: "off"},
		"isolated=on allow-to=10.77.0.2/32+fd77::/64 mss=1360": {Guard: "full", Storm: DefaultStorm, Isolated: true, AllowTo: []string{"10.77.0.2/32", "fd77::/64"}, MSS: "1360"},
	} {
		if got := s.Text("", false); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
	for bits, want := range map[int64]string{64_000: "64kbit", 1_500_000: "1.5mbit", 2_000_000_000: "2gbit"} {
		if got := rateText(bits); got != want {
			t.Errorf("%d: %s, want %s", bits, got, want)
		}
	}
	if got := (Settings{Guard: "full", Storm: DefaultStorm, MSS: "off"}).Text("trunk:10+20", true); got != "vlan=trunk:10+20 snooping=on" {
		t.Errorf("%q", got)
	}
}
