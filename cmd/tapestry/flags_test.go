package main

import (
	"math/bits"
	"net"
	"net/netip"
	"strconv"
	"testing"
)

// FuzzFlags: a size or an address that is accepted is in the daemon's bounds, and is accepted again with the same result.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"", "0", "1", "4096", "100MB", "1GiB", "1.5 k", "8GB", "9GB", "1e3", ".", "..5", "1<<20", "9999999999999TiB",
		"127.0.0.1:19000", "localhost:1", "[::1]:65535", "[::1%lo]:0", "[::ffff:127.0.0.1]:1", "0.0.0.0:1", ":1", "127.0.0.1:65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && (n < 1 || n > 1<<60) {
			t.Errorf("%q is a size of %d", s, n)
		}
		if again, bad := parseSize(strconv.FormatInt(n, 10)); err == nil && n < 1<<53 && (bad != nil || again != n) {
			t.Errorf("%q is a size of %d, and that one of %d, %v", s, n, again, bad)
		}
		if n, err := parseFileSize(s); err == nil && n < 4096 {
			t.Errorf("%q is a file size of %d", s, n)
		}
		power := func(n int) bool { return bits.OnesCount(uint(n)) == 1 }
		if ring, err := parseRing(s); err == nil && (!power(ring) || ring < 64<<10 || ring > 1<<30 || int64(ring) < n) {
			t.Errorf("%q is a ring of %d for %d", s, ring, n)
		}
		if size, err := parseRecorder(s); err == nil && s != "0" && (!power(size) || size < 2<<20 || size > 8<<30 || int64(size) < n) {
			t.Errorf("%q is a recorder of %d for %d", s, size, n)
		}
		at, err := parseListen(s)
		if err != nil {
			return
		}
		host, _, bad := net.SplitHostPort(at)
		if a, no := netip.ParseAddr(host); bad != nil || no != nil || !a.IsLoopback() {
			t.Errorf("%q listens at %q", s, at)
		}
		if again, err := parseListen(at); err != nil || again != at {
			t.Errorf("%q listens at %q, and that at %q, %v", s, at, again, err)
		}
	})
}
