package tap

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	seen := make(map[string]string)
	add := func(id string) {
		t.Helper()
		a, b, c := Names(id)
		for _, name := range []string{a, b, c} {
			if len(name) > 15 || len(name) < 4 {
				t.Fatalf("%q of %q is no link name", name, id)
			}
			if strings.Trim(name, "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
				t.Fatalf("%q of %q has strange characters", name, id)
			}
			if other, ok := seen[name]; ok && other != id {
				t.Fatalf("%q names %q and %q", name, id, other)
			}
			seen[name] = id
		}
		if a == b || b == c || a == c {
			t.Fatalf("the links of %q share a name: %s %s %s", id, a, b, c)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	for range 10000 {
		var docker [32]byte
		for i := range docker {
			docker[i] = byte(r.Uint32())
		}
		add(hex.EncodeToString(docker[:]))
		var swarm [25]byte
		for i := range swarm {
			swarm[i] = digits[r.IntN(len(digits))]
		}
		add(string(swarm[:]))
	}
	for _, strange := range []string{"", "a", "ab/../../../etc", "UPPER-CASE-ID", "elevenchars", "with a space in", "日本語日本語日本語", "abcdef\x00ghijkl", "../etc/passwd"} {
		add(strange)
	}
	if a, _, _ := Names(id); a != "tpt"+id[:12] {
		t.Errorf("%s for an ordinary id", a)
	}
	if a, _, _ := Names("UPPER-CASE-ID-1"); a == "tptUPPER-CASE-I" {
		t.Error("a strange id is not hashed")
	}
}

func TestParseMode(t *testing.T) {
	for in, ok := range map[string]bool{"veth": true, "tap": true, "": false, "VETH": false, "macvlan": false} {
		if m, err := ParseMode(in); (err == nil) != ok || ok && string(m) != in {
			t.Errorf("ParseMode(%q) = %q, %v", in, m, err)
		}
	}
}
