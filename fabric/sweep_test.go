package fabric

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/tap"
)

// What is swept and when, and what is not.
func TestSweep(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(h *host)
		between func(h *host) // in the middle of the grace period
		mode    tap.Mode
		swept   bool
	}{
		{"container lives", func(h *host) { h.m.enter(epID(1), "/s") }, nil, tap.Veth, false},
		{"container gone", func(h *host) { h.m.enter(epID(1), "/s"); h.m.die(epID(1)) }, nil, tap.Veth, true},
		{"never joined", func(*host) {}, nil, tap.Veth, true},
		{"joined in time", func(*host) {}, func(h *host) { h.m.enter(epID(1), "/s") }, tap.Veth, false},
		{"died in the middle", func(h *host) { h.m.enter(epID(1), "/s") }, func(h *host) { h.m.die(epID(1)) }, tap.Veth, false},
		{"all links gone", func(h *host) { delete(h.m.links, epID(1)) }, nil, tap.Veth, true},
		{"direct, container lives", func(h *host) { h.m.enter(epID(1), "/s") }, nil, tap.Direct, false},
		{"direct, never joined", func(*host) {}, nil, tap.Direct, true},
		{"direct, joined in time", func(*host) {}, func(h *host) { h.m.enter(epID(1), "/s") }, tap.Direct, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			n := local(1)
			n.Attach = tc.mode
			h.mustNetwork(n)
			h.mustEndpoint(netID(1), ep(1))
			h.container(netID(1), ep(2)) // lives on
			tc.prepare(h)
			h.at(first)
			if tc.between != nil {
				tc.between(h)
			}
			for now := first + time.Second; now < first+grace; now += time.Second {
				h.at(now)
				if got := h.recordedEndpoints(); now%(10*time.Second) == 0 && len(got) != 2 {
					t.Fatalf("endpoints %v after %s of grace", got, now-first)
				}
			}
			h.at(first + grace)
			want, asked := []string{epID(1), epID(2)}, []string(nil)
			if tc.swept {
				want, asked = want[1:], want[:1]
			}
			if !slices.Equal(h.m.asked, asked) {
				t.Errorf("links of %v were to be removed, want %v", h.m.asked, asked)
			}
			if got := h.m.ids(); !slices.Equal(got, want) || !slices.Equal(h.recordedEndpoints(), want) {
				t.Errorf("links %v and records %v are left, want those of %v", got, h.recordedEndpoints(), want)
			}
		})
	}
}

// After Join, a container that starts slowly has ten times the grace period.
func TestSweepSlowStart(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	if _, err := h.Join(t.Context(), netID(1), epID(1), "/s"); err != nil {
		t.Fatal(err)
	}
	h.at(first)
	h.at(first + 10*grace - time.Second)
	if got := h.m.ids(); len(got) != 1 {
		t.Fatalf("links %v are left", got)
	}
	h.at(first + 10*grace + 10*time.Second)
	if got := h.m.ids(); len(got) != 0 {
		t.Errorf("links %v are left", got)
	}
}

// The grace period begins again when a link was in use meanwhile.
func TestSweepSuspectsAnew(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	h.at(first)
	h.m.enter(epID(1), "/s")
	h.at(first + grace/2)
	h.m.edit(epID(1), func(l *link) { l.inner = true }) // Docker takes it back
	h.at(first + grace)
	h.at(first + 2*grace - 1)
	if got := h.m.ids(); len(got) != 1 {
		t.Error("swept before its second grace period was over")
	}
	if _, err := h.Join(t.Context(), netID(1), epID(1), "/s"); err != nil {
		t.Fatal(err)
	}
	h.at(first + 3*grace)
	if got := h.m.ids(); len(got) != 1 {
		t.Error("swept right after Docker had joined it")
	}
	h.at(first + 4*grace)
	if got := h.m.ids(); len(got) != 0 {
		t.Errorf("links %v are left", got)
	}
}

// Links with our tag that no record names go after the grace period; other daemons' never do.
func TestSweepOrphanLinks(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.m.links["orphan"] = link{tag: "tapestry:test:orphan", mode: tap.Veth, tap: true, outer: true, inner: true}
	h.m.links["later"] = link{tag: "tapestry:test:later", mode: tap.Direct, tap: true}
	h.m.links["theirs"] = link{tag: "tapestry:other:theirs", mode: tap.Veth, tap: true, outer: true}
	later := h.m.links["later"]
	delete(h.m.links, "later")
	h.at(first)
	h.m.links["later"] = later
	h.at(35 * time.Second)
	h.at(first + grace - 1)
	if len(h.m.links) != 4 {
		t.Errorf("links %v before the grace period is over", h.m.ids())
	}
	h.at(first + grace + 10*time.Second)
	if got := h.m.ids(); !slices.Equal(got, []string{epID(1), "later", "theirs"}) {
		t.Errorf("links are %v", got)
	}
	delete(h.m.links, "later") // somebody was faster
	h.at(90 * time.Second)
	h.m.links["later"] = later // another one: its grace begins anew
	h.at(100 * time.Second)
	h.at(130 * time.Second)
	if got := h.m.ids(); !slices.Contains(got, "later") {
		t.Error("a link was swept whose grace period had just begun")
	}
	h.at(100*time.Second + grace)
	if got := h.m.ids(); !slices.Equal(got, []string{epID(1), "theirs"}) {
		t.Errorf("links are %v", got)
	}
	if len(h.orphanSince) != 0 {
		t.Errorf("suspects are remembered: %v", h.orphanSince)
	}
}

// A container's links are left to it, whoever lost the record: another state directory, a daemon that
// was started beside this one.
func TestSweepLeavesContainers(t *testing.T) {
	h := newHost(t)
	h.m.links["running"] = link{tag: "tapestry:test:running", mode: tap.Veth, tap: true, outer: true}
	for now := first; now < first+10*grace; now += 10 * time.Second {
		h.at(now)
	}
	if got := h.m.ids(); !slices.Equal(got, []string{"running"}) {
		t.Errorf("links are %v", got)
	}
	if n := h.log.Count("level=WARN"); n != 1 {
		t.Errorf("it was said %d times, want once", n)
	}
	h.m.die("running") // now it is an orphan like any other
	h.at(first + 11*grace)
	if len(h.m.ids()) != 1 {
		t.Error("its grace period begins with its end")
	}
	h.at(first + 12*grace)
	if got := h.m.ids(); len(got) != 0 {
		t.Errorf("links are %v", got)
	}
}

// A device that could not be opened for a while comes back, and its living container is not swept.
func TestRevive(t *testing.T) {
	for _, mode := range []tap.Mode{tap.Veth, tap.Direct} {
		t.Run(string(mode), func(t *testing.T) {
			h := newHost(t)
			n := local(1)
			n.Attach = mode
			h.mustNetwork(n)
			h.container(netID(1), ep(1))
			h.crash()
			busy := true
			h.m.hook = func(op string, _ tap.Spec) error {
				if op == "adopt" && busy {
					return errors.New("device or resource busy")
				}
				return nil
			}
			h.start()
			if p := h.Ports(""); len(p) != 1 || p[0].Down == "" {
				t.Fatalf("ports are %+v", p)
			}
			h.at(10 * time.Second)
			if p := h.Ports(""); len(p) != 1 || p[0].Down == "" {
				t.Fatalf("ports are %+v", p)
			}
			busy = false
			h.at(20 * time.Second)
			h.at(30*time.Second + grace)
			if p := h.Ports(""); len(p) != 1 || p[0].Down != "" {
				t.Fatalf("ports are %+v", p)
			}
			h.m.dev(t, epID(1)).feed(ep(1).MAC, broadcast, "x")
		})
	}
}
