package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// The sum over all of an ICMP message is 0xffff, RFC 792.
func TestEchoRequestHasItsChecksum(t *testing.T) {
	for _, id := range []uint16{0, 1, 0x7fff, 0xf7ff, 0xf800, 0xffff} { // around the carry
		var sum uint32
		for echo := echoRequest(8, id); len(echo) > 0; echo = echo[2:] {
			sum += uint32(binary.BigEndian.Uint16(echo))
		}
		if sum = sum&0xffff + sum>>16; sum != 0xffff {
			t.Errorf("id %#x: sum %#x", id, sum)
		}
	}
}

func TestPing(t *testing.T) {
	testhost.Root(t, "for raw sockets")
	for _, target := range []string{"127.0.0.1", "::1"} {
		var out bytes.Buffer
		began := time.Now()
		if err := ping(t.Context(), target, &out); err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		at, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if took := time.Unix(0, at).Sub(began); err != nil || took < 0 || took > time.Minute {
			t.Errorf("%s answered after %v, %v", target, took, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if err := ping(ctx, "0100::1", &out); err == nil || !strings.Contains(err.Error(), "0100::1") || out.Len() > 0 { // RFC 6666: a discard prefix
		t.Errorf("an address that does not exist: %v, %q", err, &out)
	}
}
