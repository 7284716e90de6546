package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// together ticks h, and another VTEP, until do has returned. Time goes on, second by second, only while h tests its peers: however
// slow the machine is, no more of it passes than the tests take.
func together(t *testing.T, h *host, other *tunnel.VTEP, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	now := time.Second
	for end := time.Now().Add(patience); ; {
		h.at(now)
		if other != nil {
			other.Tick(now)
		}
		h.rest(other)
		if h.underTest() {
			now += time.Second
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
}

func (h *host) underTest() bool {
	_ = h.acquire(context.Background())
	defer h.release()
	return h.vtep != nil && h.vtep.Testing()
}

// patience is for what hangs, not for what is slow.
const patience = testhost.Patience

// heard tests the peers, again if the machine was so busy that it lost or delayed questions, trains or answers.
func (h *host) heard() (tests []PeerTest, err error) {
	for end := time.Now().Add(patience / 2); ; {
		tests, err = h.TestPeers(h.t.Context())
		if err != nil || len(tests) == 0 || tests[0].GSO != string(tunnel.NoAnswer) && tests[0].GSO != string(tunnel.Untested) || time.Now().After(end) {
			return tests, err
		}
	}
}

// rest waits until no datagram waits at h, or at another VTEP that its poller serves, however busy the machine is: what was
// asked has been answered.
func (h *host) rest(other *tunnel.VTEP) {
	h.t.Helper()
	waits := func() bool {
		_ = h.acquire(context.Background()) // nobody closes the tunnel meanwhile
		defer h.release()
		var fds []unix.PollFd
		for _, v := range []*tunnel.VTEP{h.tunnelEnd(), other} {
			if v == nil {
				continue
			}
			for _, r := range v.Receivers() {
				fds = append(fds, unix.PollFd{Fd: int32(r.Fd()), Events: unix.POLLIN})
			}
		}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err == unix.EINTR
	}
	for quiet, end := 0, time.Now().Add(time.Minute); quiet < 2; quiet++ {
		h.poller.Sync() // the round in which somebody answers is over
		if waits() {
			quiet = -1
		}
		if time.Now().After(end) {
			h.t.Fatal("a datagram is not read")
		}
	}
}

func (h *host) tunnelEnd() *tunnel.VTEP {
	if h.vtep == nil {
		return nil
	}
	return h.vtep.VTEP
}

// aged has h run for so long.
func (h *host) aged(d time.Duration) {
	_ = h.acquire(context.Background())
	defer h.release()
	h.started = time.Now().Add(-d)
}

// Two hosts test the trains between them by themselves, and on request.
func TestPeersTested(t *testing.T) {
	h := newHost(t)
	there, err := tunnel.Listen(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), h.cfg.Port), 1)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := h.poller.Add(there.Receivers()[0], 0, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	defer handle.Remove()
	if _, err := there.Link(1, netip.AddrPortFrom(h.cfg.VTEP, h.cfg.Port)); err != nil {
		t.Fatal(err)
	}
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	if p := h.Peers("")[0]; p.Test.GSO != "untested" || p.Test.Age >= 0 || !p.GSO || p.GSOWhy != "" {
		t.Errorf("before the first test: %+v", p)
	}
	for range 2 {
		h.aged(time.Hour)
		together(t, h, there, func() {
			tests, err := h.heard()
			if err != nil || len(tests) != 1 || tests[0].GSO != "ok" || tests[0].Why != "" || tests[0].RTT <= 0 || tests[0].Age == -1 ||
				tests[0].Addr != there.Local {
				t.Errorf("%+v, %v", tests, err)
			}
		})
	}
	if p := h.Peers("")[0]; p.Test.GSO != "ok" || !p.GSO {
		t.Errorf("%+v", p)
	}
	lost := h.log.Count(`result="no answer"`) // after which a good result is news
	if n := h.log.Count("trains of datagrams reach the peer"); n < 1 || n > 1+lost {
		t.Errorf("said %d times, want once: %s", n, h.log)
	}
	for _, o := range h.Status().Offloads {
		if wide := o.Name == "udp_gso" || o.Name == "udp_gro" || o.Name == "remote_checksum"; o.State != map[bool]string{true: "on", false: "unused"}[wide] || o.Off != 0 {
			t.Errorf("%+v", o)
		}
	}

	// What was tested just now is not tested again: no tick goes on with it here.
	h.aged(-time.Hour) // however slow the machine is, the test is not old
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if tests, err := h.TestPeers(ctx); err != nil || len(tests) != 1 || tests[0].GSO != "ok" {
		t.Errorf("%+v, %v", tests, err)
	}
}

// What has come since the last tick was heard just now.
func TestPeersHeard(t *testing.T) {
	h := newHost(t)
	far := newFar(h, "127.0.0.2")
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	if p := h.Peers("")[0]; p.Heard >= 0 {
		t.Errorf("nothing has come: %+v", p)
	}
	far.send(1, ether.MAC{2, 9, 9, 9, 9, 9}, broadcast, "hello")
	for deadline := time.Now().Add(time.Minute); h.Peers("")[0].WireRx == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
	}
	if p := h.Peers("")[0]; p.Heard != 0 {
		t.Errorf("heard %v ago, and it came this moment", p.Heard)
	}
}

// A host that has no tapestry keeps its trains.
func TestPeersSilent(t *testing.T) {
	h := newHost(t)
	if tests, err := h.TestPeers(t.Context()); err != nil || tests != nil {
		t.Errorf("without a tunnel: %+v, %v", tests, err)
	}
	newFar(h, "127.0.0.2")
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	together(t, h, nil, func() {
		tests, err := h.TestPeers(t.Context())
		if err != nil || len(tests) != 1 || tests[0].GSO != "no answer" || tests[0].RTT != 0 {
			t.Errorf("%+v, %v", tests, err)
		}
	})
	if p := h.Peers("")[0]; !p.GSO || p.Test.GSO != "no answer" {
		t.Errorf("%+v", p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.mustNetwork(wide(2, 2, "127.0.0.3"))
	for range 20 { // two ways out of the wait for the lock
		tests, err := h.TestPeers(ctx)
		if !errors.Is(err, context.Canceled) || tests != nil && len(tests) != 2 {
			t.Fatalf("%+v, %v", tests, err)
		}
	}
	together(t, h, nil, func() { // the network goes while somebody waits
		ended := make(chan error)
		go func() {
			_, err := h.TestPeers(t.Context())
			ended <- err
		}()
		for _, n := range []int{1, 2} {
			if err := h.DeleteNetwork(t.Context(), netID(n)); err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOffloadViews(t *testing.T) {
	ago := func(d time.Duration, why error) offload.Status {
		return offload.Status{Why: why, Since: time.Now().Add(-d), Refused: 1, Resent: 10}
	}
	none := fmt.Errorf("set: %w", offload.ErrUnsupported)
	for _, tt := range []struct {
		name   string
		states []offload.Status
		want   OffloadView
	}{
		{"one that is on", []offload.Status{{Refused: 2, Resent: 3}}, OffloadView{Users: 1, Refused: 2, Resent: 3}},
		{"the last reason", []offload.Status{ago(time.Hour, syscall.EIO), {}, ago(time.Minute, syscall.EINVAL), ago(time.Hour, syscall.EIO)},
			OffloadView{Why: "EINVAL", Since: time.Minute, Users: 4, Off: 3, Refused: 3, Resent: 30}},
		{"not supported by this kernel", []offload.Status{ago(time.Minute, none)},
			OffloadView{State: "unavailable", Why: "set: not supported by this kernel", Since: time.Minute, Users: 1, Off: 1, Refused: 1, Resent: 10}},
	} {
		var v OffloadView
		for _, s := range tt.states {
			v.Add(s)
		}
		v.Since = v.Since.Truncate(time.Minute)
		if v != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, v, tt.want)
		}
	}
}
