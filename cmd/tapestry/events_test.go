package main

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/test/fake"
)

// events shows what the daemon tells, with Docker's names, as lines and as JSON with the keys that docs/json.md has.
func TestEvents(t *testing.T) {
	bus := events.New(slog.New(slog.DiscardHandler))
	bus.Debug(events.PortUp, "port is up", "network", fake.WideID, "endpoint", fake.WebID)
	bus.Warn(events.PeerDown, "peer unreachable", "peer", "192.0.2.2", "err", "no route", "link", "a\x1b[31m")
	socket := fake.ServeUnix(t, "events.sock", (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Events: bus}).Handler())
	at := []string{"--api-socket", socket, "--docker-host", fake.Docker(t)}

	r := tapestry(t, append([]string{"events"}, at...)...)
	lines := strings.Split(r.out, "\n")
	if r.code != exit.OK || len(lines) != 3 || !strings.HasSuffix(lines[0], "  port_up          wide: web: port is up") ||
		!strings.HasSuffix(lines[1], "  peer_down        192.0.2.2: peer unreachable, err no route, link a [31m") {
		t.Errorf("exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
	if r := tapestry(t, append([]string{"events", "--since", "2100-01-01T00:00:00Z"}, at...)...); r.code != exit.OK || r.out != "" {
		t.Errorf("of the future: exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
	for _, bad := range []string{"soon", "-1m", "", "2026"} {
		if r := tapestry(t, append([]string{"events", "--since", bad}, at...)...); r.code != exit.Usage {
			t.Errorf("--since %q: exit %d", bad, r.code)
		}
	}
	var keys []string
	for line := range strings.Lines(tapestry(t, append([]string{"events", "--json", "--since", "1h"}, at...)...).out) {
		var v any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Error(err)
		}
		keys = append(keys, fake.JSONKeys(v, "")...)
	}
	slices.Sort(keys)
	if got, want := slices.Compact(keys), slices.Sorted(slices.Values(fake.DocumentedKeys(t)["events"])); !slices.Equal(got, want) {
		t.Errorf("events --json has\n%v\ndocs/json.md says\n%v", got, want)
	}
}
