package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Moves of addresses, guards' drops and refused offloads become events: some of many, and not again for a while.
func TestWatch(t *testing.T) {
	o, m := newMeter()
	sw, ports := addPorts(o, 1, 3)
	bus := events.New(slog.New(slog.DiscardHandler))
	w := &watcher{live: m.Live, bus: bus, moves: make(map[string]seen), ports: make(map[uint32]*seenPort)}
	now, seen := time.Now(), 0
	look := func(after time.Duration, want ...events.Kind) (fresh []events.Event) {
		t.Helper()
		now = now.Add(after)
		w.look(now)
		all := bus.Since(time.Time{})
		fresh, seen = all[seen:], len(all)
		ok := len(fresh) == len(want)
		for i := range fresh {
			ok = ok && fresh[i].Kind == want[i]
		}
		if !ok {
			t.Fatalf("got %v, want %v", fresh, want)
		}
		return fresh
	}
	look(0)

	move := func(n int) {
		for i := range n {
			mac := ether.MAC{2, 1, 1, 1, 1, byte(i)}
			for _, p := range ports[:2] {
				p.Ingress([]ether.Frame{plain(ether.MAC{255, 255, 255, 255, 255, 255}, mac)})
			}
		}
	}
	move(1)
	e := look(time.Second, events.MACMoved)[0]
	if e.Network != fmt.Sprintf("%02d%062d", 1, 0) || e.Port != ports[1].Name || e.Fields["mac"] != "02:01:01:01:01:00" || e.Fields["from"] != ports[0].Name || e.Fields["more"] != "0" {
		t.Errorf("%+v", e)
	}
	move(10)
	look(time.Second)
	e = look(quietFor, events.MACMoved, events.MACMoved, events.MACMoved, events.MACMoved)[0]
	if e.Fields["more"] != strconv.FormatUint(sw.Moves()-2, 10) {
		t.Errorf("of %d moves: %+v", sw.Moves(), e)
	}

	ports[0].SetPolicy(&vswitch.Policy{Guards: vswitch.GuardBPDU})
	stp := func() {
		ports[0].Ingress([]ether.Frame{plain(ether.MAC{1, 0x80, 0xc2, 0, 0, 0}, ether.MAC{2, 0, 0, 1, 0, 0})})
	}
	stp()
	stp()
	e = look(quietFor, events.GuardTripped)[0]
	if e.Port != ports[0].Name || e.Fields["reason"] != "bpdu" || e.Fields["frames"] != "2" {
		t.Errorf("%+v", e)
	}
	stp()
	look(time.Second)
	look(guardQuiet, events.GuardTripped)

	ports[0].SetPolicy(&vswitch.Policy{Storm: 1})
	for range 4 { // it has moved three times before, by the switch's clock just now
		move(1)
	}
	all := look(quietFor, events.MACMoved, events.MACMoved, events.MACMoved, events.MACHeld, events.Storm)
	if e = all[3]; e.Port == e.Fields["from"] || e.Fields["mac"] != "02:01:01:01:01:00" {
		t.Errorf("%+v", e)
	}
	if e = all[4]; e.Port != ports[0].Name || e.Fields["reason"] != "storm" {
		t.Errorf("%+v", e)
	}

	o.Plug(fabric.PortView{Network: e.Network, Kind: "container", Name: ports[2].Name, Number: ports[2].Number}, gates{refused: 1}, nil)
	e = look(time.Second, events.OffloadShut)[0]
	if e.Port != ports[2].Name || e.Fields["offload"] != "tso4" || e.Fields["why"] != "EINVAL" {
		t.Errorf("%+v", e)
	}
	look(quietFor)
}

// The API tells what was, and with follow what comes, until the client hangs up or the daemon ends.
func TestEventsStream(t *testing.T) {
	bus, ending := events.New(slog.New(slog.DiscardHandler)), make(chan struct{})
	bus.Info(events.PeerDown, "peer unreachable", "peer", "192.0.2.2", "err", "no route")
	a := &API{Events: bus, Ending: ending}
	srv := httptest.NewServer(http.HandlerFunc(a.events))
	defer srv.Close()
	open := func(ctx context.Context, query string) *http.Response {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"?"+query, nil)
		testhost.Must(t, err)
		resp, err := srv.Client().Do(r)
		testhost.Must(t, err)
		return resp
	}
	read := func(resp *http.Response, want ...string) {
		t.Helper()
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for i := 0; i < len(want); i++ {
			var e api.Event
			if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || e.Text != want[i] {
				t.Fatalf("line %d: %s, want %s", i, lines.Bytes(), want[i])
			}
			if e.Text == "peer unreachable" {
				bus.Info(events.PeerUp, "peer reachable again", "peer", "192.0.2.2")
			}
			if e.Text == "peer reachable again" {
				close(ending)
			}
		}
		if lines.Scan() {
			t.Errorf("one more line: %s", lines.Text())
		}
	}
	if resp := open(t.Context(), "from=soon"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
	read(open(t.Context(), "from="+strconv.FormatInt(time.Now().Add(time.Hour).UnixNano(), 10)))
	ctx, hangUp := context.WithCancel(t.Context())
	resp := open(ctx, "follow=yes")
	hangUp()
	resp.Body.Close()
	read(open(t.Context(), "follow=yes"), "peer unreachable", "peer reachable again")
	srv.Client().CloseIdleConnections()
}
