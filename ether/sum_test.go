package ether

import (
	"math/rand/v2"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

func TestSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300)
	ones := make([]byte, 300)
	for i := range random {
		random[i], ones[i] = byte(rng.Uint32()), 0xff
	}
	for name, b := range map[string][]byte{"random": random, "ones": ones, "zeros": make([]byte, 300)} {
		for n := range b {
			for from := range min(n, 9) { // every alignment
				for _, initial := range []uint32{0, 1, 0xffff, 0x7fffffff, 0xffffffff} {
					want := packets.Sum(b[from:n], uint32(fold(uint64(initial))))
					if got := Sum(b[from:n], initial); got != want {
						t.Fatalf("%s[%d:%d] with %#x: got %#04x, want %#04x", name, from, n, initial, got, want)
					}
				}
			}
		}
	}
}

// The example of RFC 1071 §3.
func TestSumExample(t *testing.T) {
	if got := Sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0); got != 0xddf2 {
		t.Errorf("got %#x, want 0xddf2", got)
	}
}
