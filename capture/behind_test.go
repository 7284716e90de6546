package capture

import (
	"fmt"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Of a container on another host come the frames of its own, by that host's port on its network: live, and out of the recorder.
func TestBehind(t *testing.T) {
	const nobody = 9
	h := NewHub()
	var all []*net
	for _, name := range []string{"one", "two"} {
		n := newNet(h, name)
		n.ports[3].Detach()
		n.ports[3] = n.sw.Attach("192.0.2.2", wire{}, true, 1514) // stations 3 and 4 are there
		h.Plug(Port{Number: n.ports[3].Number, Network: name, Name: "192.0.2.2", Remote: true})
		n.send(3, 1, 0)
		n.ports[3].Ingress([]ether.Frame{to(mac(4), mac(1), 0)})
		all = append(all, n)
	}
	r := h.NewRecorder()
	testhost.Must(t, r.Resize(1<<21))
	defer r.Close()
	of := func(network string, station byte) Behind {
		return Behind{network, "192.0.2.2", func(frame []byte, _ int) bool {
			return frame[5] == station || frame[11] == station || frame[5] == nobody && frame[15] == station
		}}
	}
	send := func() {
		for i, n := range all {
			base := byte(10 * i)
			n.send(1, 3, base+1)
			n.send(1, 4, base+2)
			n.ports[3].Ingress([]ether.Frame{to(mac(3), mac(2), base+3)})
			n.send(1, 2, base+4)
			about := to(mac(1), mac(nobody), base+5) // flooded, about station 3
			about.Bytes()[15] = 3
			n.ports[1].Ingress([]ether.Frame{about})
			n.send(1, nobody, base+6)
		}
	}
	send()
	for _, c := range []struct {
		name, want string
		targets    Targets
	}{
		{"one station", "[1 3 5]", Targets{Behind: []Behind{of("one", 3)}}},
		{"two", "[1 2 3 5 12]", Targets{Behind: []Behind{of("one", 3), of("one", 4), of("two", 4)}}},
		{"beside a container here", "[1 3 4 5 6]", Targets{Behind: []Behind{of("one", 3)}, Endpoints: map[string]bool{"one-b": true}}},
		{"of a port that is a target", "[1 2 3 5 6 11 12 13 15 16]", Targets{Behind: []Behind{of("one", 3)}, Peers: map[string]bool{"192.0.2.2": true}}},
		{"of a host that is not there", "[]", Targets{Behind: []Behind{{"one", "192.0.2.3", func([]byte, int) bool { return true }}}}},
	} {
		c.targets.Some = true
		s := open(t, h, Options{Targets: c.targets})
		send()
		if got := fmt.Sprint(ints(s.came())); got != c.want {
			t.Errorf("%s: frames %s, want %s", c.name, got, c.want)
		}
		wants := h.Matcher(c.targets)
		var kept []byte
		testhost.Must(t, r.Dump(0, func(int64) error { return nil }, func(r *Record) error {
			if n := r.Data[14]; wants(r) && len(kept) < 20 && (len(kept) == 0 || n > kept[len(kept)-1]) { // the first round
				kept = append(kept, n)
			}
			return nil
		}))
		if got := fmt.Sprint(ints(kept)); got != c.want {
			t.Errorf("%s: frames %s were kept, want %s", c.name, got, c.want)
		}
	}
	// One that is plugged later.
	s := open(t, h, Options{Targets: Targets{Some: true, Behind: []Behind{of("late", 3)}}})
	late := newNet(h, "late")
	p := late.sw.Attach("192.0.2.2", wire{}, true, 1514)
	h.Plug(Port{Number: p.Number, Network: "late", Name: "192.0.2.2", Remote: true})
	p.Ingress([]ether.Frame{to(mac(3), mac(2), 1)})
	p.Ingress([]ether.Frame{to(mac(4), mac(2), 2)})
	if got := s.came(); len(got) != 1 || got[0] != 1 || len(s.NewPorts()) != 1 {
		t.Errorf("of a port that came: %v", got)
	}
	f := to(mac(4), mac(nobody), 2)
	if n := testing.AllocsPerRun(100, func() {
		s.wants("late", p, nil, vswitch.Flooded, &f)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ints(numbers []byte) []int {
	all := []int{}
	for _, n := range numbers {
		all = append(all, int(n))
	}
	return all
}
