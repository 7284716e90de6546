package test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// startResolver starts tapestry resolver on a host that has a container, and returns the address that Docker should ask.
// pid is the host's number of it.
func (h *Host) startResolver(t *testing.T) (b *background, pid, addr string) {
	t.Helper()
	b = h.background(t, "", "sh", "-c", "echo pid $$; exec tapestry resolver --upstream 192.0.2.254") // where nobody answers
	b.await(t, "the daemon answers")
	pid = strings.Fields(b.said.String())[1]
	t.Cleanup(func() { h.try("kill", "-KILL", pid) })
	_, rest, _ := strings.Cut(b.said.String(), "answering addr=")
	at, err := netip.ParseAddrPort(strings.Fields(rest + " none")[0])
	testhost.Must(t, err)
	return b, pid, at.Addr().String()
}

// nslookup is what a container finds for a name; "" if that is nothing.
func (h *Host) nslookup(container, name string) string {
	out, err := h.try("docker", "exec", container, "busybox", "nslookup", name)
	if err != nil {
		return ""
	}
	return out
}

// TestNames: containers find those of another host by name, forward and reverse, as they come and go.
func TestNames(t *testing.T) {
	key := t.TempDir() + "/key"
	size, many := 2, rounds(t, 3)
	if many > 50 {
		size = 3
	}
	s := newSharing(t, "names", size, func(outside *Host) {
		outside.newKey(t, key)
	}, "--cluster", "gossip", "--join", "192.0.2.1", "--cluster-key-file", key)
	a, b := s.hosts[0], s.hosts[1]
	for i, h := range s.hosts {
		h.quiet(t)
		h.network(t, "blue", "-o", "tapestry.network=blue", "--subnet", "10.50.0.0/16", "--ip-range", fmt.Sprintf("10.50.%d.0/24", i+1), "--gateway", "10.50.0.1")
	}
	a.run(t, "first", "blue")
	b.run(t, "web", "blue", "--network-alias", "www")
	s.settle(t, size)
	resolver, pid, at := a.startResolver(t)
	b.startResolver(t)
	for _, h := range s.hosts[2:] {
		h.run(t, "idle", "blue")
		h.startResolver(t)
	}
	a.run(t, "asks", "blue", "--dns", at)
	web := b.address(t, "web", "blue")
	becomes := func(name, want string) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			if got := a.nslookup("asks", name); !strings.Contains(got, want) || want == "" && got != "" {
				return fmt.Errorf("%s is %q, want %q; resolver: %s", name, got, want, resolver.said.String())
			}
			return nil
		})
	}
	for _, name := range []string{"web.blue", "WEB.blue", "web", "www", "www.blue", b.docker(t, "inspect", "-f", "{{.Id}}", "web")[:12]} {
		becomes(name, web)
	}
	becomes(web, "web.blue")
	a.exec(t, "asks", "ping", "-c1", "-W20", "web.blue")

	t.Run("the commands", func(t *testing.T) { a.commandsKnow(t, b, web) })

	b.run(t, "later", "blue")
	becomes("later.blue", b.address(t, "later", "blue"))
	b.stop(t, "later")
	becomes("later.blue", "")
	b.docker(t, "rename", "web", "shop")
	becomes("shop.blue", web)
	becomes("web.blue", "")

	// Names come and go with their containers, of which some are there at a time. A server that is silent about unknown ones would be
	// in the times.
	a.in(t, "ip", "route", "add", "unreachable", "192.0.2.254/32")
	var came, went []time.Duration
	answers := func(name, want string, took *[]time.Duration) {
		t.Helper()
		began := time.Now()
		testhost.Eventually(t, patience, func() error {
			said, err := a.try("busybox", "nslookup", "-type=a", name, at)
			if found := err == nil && strings.Contains(said, "Name:"); found != (want != "") || found && !strings.Contains(said, want) {
				return fmt.Errorf("%s is %s, want %q", name, said, want)
			}
			return nil
		})
		*took = append(*took, time.Since(began))
	}
	for i := range many + 5 {
		h := s.hosts[1+i%(size-1)]
		if name := fmt.Sprintf("n%d", i); i < many {
			h.run(t, name, "blue")
			answers(name+".blue", h.address(t, name, "blue"), &came)
		}
		if old := i - 5; old >= 0 && old < many {
			h, name := s.hosts[1+old%(size-1)], fmt.Sprintf("n%d", old)
			h.docker(t, "rm", "-f", name)
			answers(name+".blue", "", &went)
		}
	}
	t.Logf("the names of %d containers on %d hosts were known within %v, and gone within %v", many, size, slices.Max(came).Round(time.Millisecond), slices.Max(went).Round(time.Millisecond))

	// Its own host's names do not depend on it.
	a.in(t, "kill", "-TERM", pid)
	if said, err := resolver.wait(t); err != nil || !strings.Contains(said, "stopped") {
		t.Errorf("%v: %s", err, said)
	}
	becomes("shop.blue", "")
	becomes("first", a.address(t, "first", "blue"))
	a.startResolver(t)
	becomes("shop.blue", web)
}
