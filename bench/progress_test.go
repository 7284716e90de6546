package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

func TestProgressLeft(t *testing.T) {
	p := &progress{cost: 100, done: 5, at: 8 * time.Second}
	if got := p.left(8 * time.Second); got != 95*time.Second {
		t.Errorf("before the speed is known %v are left, want 95s as estimated", got)
	}
	p.done, p.at = 20, 40*time.Second
	for gone, want := range map[time.Duration]time.Duration{
		40 * time.Second:  160 * time.Second, // half as fast as estimated
		50 * time.Second:  150 * time.Second, // within a step the end stays where it was
		300 * time.Second: 0,
	} {
		if got := p.left(gone); got != want {
			t.Errorf("after %v %v are left, want %v", gone, got, want)
		}
	}
}

// Without a terminal there are only whole lines about what is done.
func TestProgressLines(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b, 12, 100)
	p.status("measuring")
	p.advance(1, 5)
	p.line("one host: %s", results.TCPOneFlow)
	fmt.Fprint(p, "  memory copy  80 Gb/s\n  TAP  70 Gb/s\n")
	p.end()
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 4 || lines[3] != "" || strings.ContainsAny(b.String(), "\r\033") {
		t.Fatalf("got %q, want three lines", b.String())
	}
	for i, want := range []string{"]  one host: TCP, 1 flow", "]  memory copy  80 Gb/s", "]  TAP  70 Gb/s"} {
		if !strings.HasPrefix(lines[i], "[ 1/12  0:00, ends ") || !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %q does not end in %q", lines[i], want)
		}
	}
}
