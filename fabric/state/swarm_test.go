package state

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What was saved of the Swarm is loaded; a file that is not intact is an error that names it, and can be moved away.
func TestSwarm(t *testing.T) {
	d := Dir(t.TempDir())
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	if w, err := d.LoadSwarm(); err != nil || !reflect.DeepEqual(w, Swarm{}) {
		t.Errorf("without a file: %+v, %v", w, err)
	}
	parked := sample()
	parked.Network.ID = strings.Repeat("a", 25)
	parked.Network.Swarm = true
	now := time.Now().UTC().Truncate(time.Second)
	want := Swarm{Self: netip.MustParseAddr("192.0.2.1"), Nodes: []Node{{Addr: netip.MustParseAddr("192.0.2.2"), Left: now}, {Addr: netip.MustParseAddr("192.0.2.3")}},
		Allocated: map[string]Allocation{parked.Network.ID: {VNI: 80, Confirmed: true}}, Parked: map[string]Parked{parked.Network.ID: {parked, now}}}
	for range 2 {
		if err := d.SaveSwarm(want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := d.LoadSwarm(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if err := os.Truncate(d.Swarm(), 20); err != nil {
		t.Fatal(err)
	}
	if _, err := d.LoadSwarm(); err == nil || !strings.Contains(err.Error(), d.Swarm()) {
		t.Errorf("truncated: %v", err)
	}
	if n, err := d.Check(); n != 0 || err == nil || !strings.Contains(err.Error(), d.Swarm()) {
		t.Errorf("checked: %d, %v", n, err)
	}
	if err := d.SetSwarmAside(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Swarm() + ".damaged"); err != nil || info.Size() != 20 {
		t.Errorf("put aside: %v, %v", info, err)
	}
	if w, err := d.LoadSwarm(); err != nil || !reflect.DeepEqual(w, Swarm{}) {
		t.Errorf("after it was put aside: %+v, %v", w, err)
	}
	if err := d.SetSwarmAside(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("put aside twice: %v", err)
	}
}
