package scale

import (
	"bytes"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// TestParts: each part is measured at small sizes, and all of its figures are there at the largest one.
func TestParts(t *testing.T) {
	o := Options{Hosts: 20, Members: 5, Known: 30, Records: 200, Peers: 20, hurry: true}
	for _, p := range Parts {
		t.Run(p.Name, func(t *testing.T) {
			if p.Name == "etcd" {
				testhost.Tools(t, "etcd")
			}
			one, progress := o, new(bytes.Buffer)
			one.Parts, one.Progress = []string{p.Name}, progress
			r, err := Run(t.Context(), one)
			testhost.Must(t, err)
			if len(r.Skipped) > 0 || len(r.Parts) != 1 || r.Parts[0].Name != p.Name {
				t.Fatalf("skipped %v, parts %v; it says\n%s", r.Skipped, r.Parts, progress)
			}
			largest := map[string]float64{"etcd": 20, "gossip": 5, "member": 30, "directory": 150, "switch": 200, "tunnel": 20}[p.Name]
			if len(r.Parts[0].Curves) < 2 {
				t.Errorf("%d curves", len(r.Parts[0].Curves))
			}
			for _, c := range r.Parts[0].Curves {
				if c.X == "" || c.Y == "" || !slices.ContainsFunc(c.Points, func(p results.Point) bool { return p.X == largest }) {
					t.Errorf("%s: %v: want a point at %.0f", c.Name, c.Points, largest)
				}
			}
		})
	}
}

// TestNoEtcd: without etcd its part says what to do, and the others are measured.
func TestNoEtcd(t *testing.T) {
	r, err := Run(t.Context(), Options{Parts: []string{"etcd", "tunnel"}, Peers: 2, Etcd: "/nowhere/etcd"})
	testhost.Must(t, err)
	if len(r.Parts) != 1 || len(r.Skipped) != 1 || r.Skipped[0].What != "etcd" || !bytes.Contains([]byte(r.Skipped[0].Why), []byte("--etcd")) {
		t.Errorf("parts %v, skipped %v", r.Parts, r.Skipped)
	}
}

// TestEnd: a run that is cancelled ends, with the server that it has started.
func TestEnd(t *testing.T) {
	testhost.Tools(t, "etcd")
	s, err := newServer(t.Context(), "etcd")
	testhost.Must(t, err)
	pid := s.cmd.Process.Pid
	if m, err := s.memory(); err != nil || m < 1e6 {
		t.Errorf("%v bytes, %v", m, err)
	}
	if _, err := s.taken(); err != nil {
		t.Error(err)
	}
	dir := s.dir
	s.close()
	if _, err := os.Stat(dir); s.cmd != nil || err == nil || syscall.Kill(pid, 0) == nil {
		t.Error("the server, or its directory, is left")
	}
}

// TestRecord: what the hosts of a simulation say can be read, and no two of them have one thing.
func TestRecord(t *testing.T) {
	d := cluster.NewDirectory("")
	var u cluster.Update
	for _, i := range []int{0, 1, 2, 255, 256, 5000, 49_999} {
		r := record(i)
		b, err := r.Encode()
		testhost.Must(t, err)
		got, err := cluster.Decode(b)
		testhost.Must(t, err)
		if number(got.ID) != i {
			t.Errorf("host %d is number %d", i, number(got.ID))
		}
		u.Entries = append(u.Entries, cluster.Entry{Record: *got})
	}
	d.Apply(u)
	if p := d.Problems(new(cluster.Record)); len(p) > 0 {
		t.Error(p)
	}
	if n := upTo(20, 10, 20, 30); !slices.Equal(n, []int{10, 20}) {
		t.Errorf("sizes %v", n)
	}
}
