package events

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// An event is in the log as it was said, and is known with what it is about.
func TestTell(t *testing.T) {
	log := new(testhost.Log)
	b := New(slog.New(slog.NewTextHandler(log, nil)))
	began := time.Now()
	b.Debug(PortUp, "container's link is up", "network", "n1", "endpoint", "e1")
	b.Info(PeerUp, "peer reachable again", "peer", "192.0.2.2", "link", "eth0", "mtu", 1500)
	b.Warn(PeerDown, "peer unreachable", "peer", "192.0.2.2", "err", errors.New("no route"))
	b.Info(TunnelUp, "tunnel open", "err", nil, "why", "")
	if log.Count("link is up") != 0 || log.Count(`level=INFO msg="peer reachable again" peer=192.0.2.2 link=eth0 mtu=1500`) != 1 || log.Count(`level=WARN msg="peer unreachable" peer=192.0.2.2 err="no route"`) != 1 {
		t.Errorf("log: %s", log)
	}
	want := []Event{
		{Number: 1, Kind: PortUp, Text: "container's link is up", Network: "n1", Port: "e1"},
		{Number: 2, Kind: PeerUp, Text: "peer reachable again", Port: "192.0.2.2", Fields: map[string]string{"link": "eth0", "mtu": "1500"}},
		{Number: 3, Kind: PeerDown, Text: "peer unreachable", Port: "192.0.2.2", Fields: map[string]string{"err": "no route"}},
		{Number: 4, Kind: TunnelUp, Text: "tunnel open"},
	}
	got := b.Since(began)
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, e := range got {
		w := want[i]
		if e.Number != w.Number || e.Kind != w.Kind || e.Text != w.Text || e.Network != w.Network || e.Port != w.Port || !maps.Equal(e.Fields, w.Fields) || e.Time.Before(began) {
			t.Errorf("%+v, want %+v", e, w)
		}
	}
	if got := b.Since(time.Now().Add(time.Hour)); len(got) != 0 {
		t.Errorf("of the future: %v", got)
	}
	if got := b.Counts(); !maps.Equal(got, map[string]uint64{"port_up": 1, "peer_up": 1, "peer_down": 1, "tunnel_up": 1}) {
		t.Errorf("counts: %v", got)
	}
}

// The latest events are kept, however many there were, while many tell at once.
func TestKept(t *testing.T) {
	b := New(slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range kept {
				b.Info(MACMoved, "moved")
			}
		})
	}
	all.Wait()
	got := b.Since(time.Time{})
	if len(got) != kept || got[0].Number != 3*kept+1 || got[kept-1].Number != 4*kept {
		t.Errorf("%d events are kept, from %d on", len(got), got[0].Number)
	}
}

// A follower gets what was before and what comes, each once; one that does not read is told how many it has missed, and holds nobody up.
func TestFollow(t *testing.T) {
	b := New(slog.New(slog.DiscardHandler))
	b.Info(PortUp, "one")
	before, f := b.Follow(time.Time{})
	if len(before) != 1 || before[0].Text != "one" {
		t.Errorf("%v", before)
	}
	b.Info(PortUp, "two")
	if e := <-f.Next(); e.Text != "two" || f.Lost() != 0 {
		t.Errorf("%v", e)
	}
	for range pending + 5 {
		b.Info(PortUp, "more")
	}
	if got := len(f.Next()); got != pending || f.Lost() != 5 || f.Lost() != 0 {
		t.Errorf("%d wait", got)
	}
	f.Close()
	b.Info(PortUp, "after it")
	if len(f.Next()) != pending || len(b.followers) != 0 {
		t.Error("it follows on")
	}
}

// docs/events.md has each kind with its meaning.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/events.md")
	testhost.Must(t, err)
	for _, k := range Kinds() {
		if row := "\n| `" + k.String() + "` | " + k.Meaning() + " |"; k.String() == "" || !strings.Contains(string(text), row) {
			t.Errorf("docs/events.md does not have the row%s", row)
		}
	}
	if n := strings.Count(string(text), "\n| `"); n != len(Kinds()) {
		t.Errorf("docs/events.md has %d rows", n)
	}
}
