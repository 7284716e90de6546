package vswitch

import "testing"

// Each verdict has a name that is read back; a drop has a meaning, a cause and an advice, a delivery has none.
func TestVerdictTexts(t *testing.T) {
	for v := range verdicts {
		if got, ok := ParseVerdict(v.String()); !ok || got != v || v.String() == "" {
			t.Errorf("verdict %d is called %q, which is read as %d, %v", v, v, got, ok)
		}
		if (v.Meaning() != "") != v.Drop() || (v.Advice() != "") != v.Drop() || (v.Cause() != "") != v.Drop() {
			t.Errorf("%s means %q, cause %q, advice %q", v, v.Meaning(), v.Cause(), v.Advice())
		}
	}
	if v, ok := ParseVerdict("none"); ok {
		t.Errorf("none is read as %s", v)
	}
}

// Numbers of verdicts travel in streams and files: each means for ever what it meant first.
func TestVerdictNumbers(t *testing.T) {
	names := []string{"forwarded", "flooded", "runt", "offload", "bad_source", "spoofed", "hairpin", "horizon", "mtu", "detached", "fault", "down", "answered", "link_local",
		"spoofed_ip", "spoofed_arp", "spoofed_nd", "ra", "dhcp", "bpdu", "unreadable", "flapping", "storm", "rate", "isolated", "vlan", "own_address"}
	for v, name := range names {
		if got := Verdict(v).String(); got != name {
			t.Errorf("verdict %d is %s, was %s", v, got, name)
		}
	}
	if len(names) != int(verdicts) {
		t.Errorf("there are %d verdicts, want %d: new ones come last, here too", verdicts, len(names))
	}
}
