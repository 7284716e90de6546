package trace

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
)

// FuzzChecksum: no packet that the daemon sends may cause a panic.
func FuzzChecksum(f *testing.F) {
	f.Add(fake.UDPFrame(60), uint8(0))
	f.Add(fake.TCPFrame(true, 2), uint8(64))
	f.Fuzz(func(t *testing.T, b []byte, inner uint8) {
		ip := max(ether.HeaderLen, int(inner))
		start, offset := checksumField(b, ip)
		if start == 0 != (offset == 0) || start != 0 && int(start) < ip {
			t.Errorf("%d and %d of %x at %d", start, offset, b, ip)
		}
	})
}
