package testhost

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// A Log is read while it is written.
func TestLog(t *testing.T) {
	var l Log
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				fmt.Fprint(&l, "line\n")
				_ = l.Count("line")
			}
		})
	}
	wg.Wait()
	if n := l.Count("line\n"); n != 400 || len(l.String()) != 2000 {
		t.Errorf("%d lines in %d bytes", n, len(l.String()))
	}
}

// failing is a test that can fail without the whole one.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) { f.said = fmt.Sprintf(format, args...); panic(f) }

// Eventually asks again until there is no error, and fails with the last one.
func TestEventually(t *testing.T) {
	tries := 0
	Eventually(t, Patience, func() error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if tries != 3 {
		t.Errorf("%d tries, want 3", tries)
	}
	f := &failing{TB: t}
	defer func() {
		if recover() != f || f.said != "after 1ms: never" {
			t.Errorf("it says %q", f.said)
		}
	}()
	Eventually(f, time.Millisecond, func() error { return errors.New("never") })
}

// A goroutine that ends late is not one that is left; one that does not end is.
func TestLeft(t *testing.T) {
	looks := 0
	late := func(...goleak.Option) error {
		if looks++; looks < 3 {
			return errors.New("one is about to end")
		}
		return nil
	}
	if err := left(late, Patience); err != nil || looks != 3 {
		t.Errorf("after %d looks: %v", looks, err)
	}
	stays := errors.New("one stays")
	if err := left(func(...goleak.Option) error { return stays }, time.Millisecond); err != stays {
		t.Errorf("it says %v", err)
	}
}

// Each who asks has a port of his own, at which everybody else's addresses are free.
func TestUDPPort(t *testing.T) {
	seen := make(map[uint16]bool)
	for range 50 {
		port := UDPPort(t)
		if seen[port] {
			t.Errorf("port %d was given twice", port)
		}
		seen[port] = true
		for i := range byte(9) {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1+i), Port: int(port)})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
}
