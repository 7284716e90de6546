package docker_test

import (
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/fake"
)

// A container that came after Docker was asked last is asked for, however soon; one that has gone keeps its name.
func TestEventNames(t *testing.T) {
	d := fake.NewLiveDocker(t)
	n := &docker.EventNames{Client: &client.Client{Socket: fake.Daemon(t, fake.NewFabric()), DockerHost: d.At}}
	named := func(port string, at time.Time) string {
		e := api.Event{Time: at, Kind: "port_up", Network: fake.WideID, Port: port}
		n.Text(t.Context(), &e)
		return e.Container
	}
	began := time.Now()
	d.Join(fake.WideID, "c1", "web", fake.WebID, "10.80.1.2/16")
	if got := named(fake.WebID, began); got != "web" {
		t.Errorf("got %q", got)
	}
	d.Join(fake.WideID, "c2", "db", fake.FarID, "10.80.1.3/16")
	d.Leave(fake.WideID, "c1")
	if got := named(fake.FarID, began); got != "" {
		t.Errorf("Docker was asked again for an event from before its last answer: %q", got)
	}
	if got := named(fake.FarID, time.Now()); got != "db" {
		t.Errorf("just after the last answer: %q", got)
	}
	if got := named(fake.WebID, time.Now()); got != "web" {
		t.Errorf("of one that has gone: %q", got)
	}
}
