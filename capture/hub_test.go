package capture

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// wire is a device that accepts all frames and drops them.
type wire struct{}

func (wire) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 0 }

func mac(i byte) ether.MAC { return ether.MAC{2, 0, 0, 0, 0, i} }

// to is a frame of 64 bytes between stations, with a number behind its header.
func to(src, dst ether.MAC, number byte) ether.Frame {
	room := make([]byte, ether.Headroom+64)
	b := room[ether.Headroom:]
	copy(b, dst[:])
	copy(b[6:], src[:])
	b[12], b[13], b[14] = 0x08, 0x06, number // ARP: the recorder keeps what follows
	return ether.Lend(room, ether.Offload{})
}

// A net is a network with three ports, a, b and c, of stations 1, 2 and 3.
type net struct {
	sw    *vswitch.Switch
	ports [4]*vswitch.Port
}

func newNet(h *Hub, name string) *net {
	n := &net{sw: vswitch.New(vswitch.Config{})}
	for i := 1; i <= 3; i++ {
		n.ports[i] = n.sw.Attach(string(rune('a'+i-1)), wire{}, false, 1514)
		n.ports[i].Pin(mac(byte(i)))
		p := Port{Number: n.ports[i].Number, Network: name, Name: name + "-" + n.ports[i].Name, MAC: mac(byte(i)), MTU: 1500}
		h.Plug(p)
	}
	h.Add(name, n.sw)
	return n
}

// send sends a frame from station src into the station's port.
func (n *net) send(src, dst, number byte) {
	n.ports[src].Ingress([]ether.Frame{to(mac(src), mac(dst), number)})
}

func open(t *testing.T, h *Hub, o Options) *Subscriber {
	t.Helper()
	s, err := h.Subscribe(o)
	testhost.Must(t, err)
	t.Cleanup(s.Close)
	return s
}

// came gives the numbers of the frames that a Subscriber got.
func (s *Subscriber) came() (numbers []byte) {
	s.Read(func(r *Record) { numbers = append(numbers, r.Data[14]) })
	return numbers
}

func TestHub(t *testing.T) {
	h := NewHub()
	one, two := newNet(h, "one"), newNet(h, "two")
	const nobody = 9
	all := func() {
		one.send(1, 2, 1)
		one.send(1, nobody, 2) // flooded
		one.send(1, 1, 3)      // hairpin
		two.send(2, 3, 4)
		two.ports[1].Ingress([]ether.Frame{to(mac(2), mac(3), 5)}) // spoofed
	}
	only := func(names ...string) Targets {
		t := Targets{Some: true, Endpoints: map[string]bool{}}
		for _, name := range names {
			t.Endpoints[name] = true
		}
		return t
	}
	for _, c := range []struct {
		name    string
		options Options
		targets Targets
		want    []byte
	}{
		{"all", Options{}, Targets{}, []byte{1, 2, 3, 4, 5}},
		{"drops", Options{DropsOnly: true}, Targets{}, []byte{3, 5}},
		{"a", Options{}, only("one-a"), []byte{1, 2, 3}},
		{"b, which gets", Options{}, only("one-b"), []byte{1, 2}},
		{"c, which gets what is flooded", Options{}, only("one-c"), []byte{2}},
		{"the other network", Options{}, only("two-c"), []byte{4}},
		{"no port", Options{}, only(), nil},
		{"filter", Options{Match: func(f []byte, _ int) bool { return f[14]%2 == 1 }}, Targets{}, []byte{1, 3, 5}},
		{"filter and port", Options{Match: func(f []byte, n int) bool { return f[14] < 2 && n == 64 }}, only("one-b"), []byte{1}},
	} {
		s := open(t, h, c.options)
		s.SetTargets(c.targets)
		all()
		if waiting := s.Stats().Waiting; waiting != uint64(len(c.want)) {
			t.Errorf("%s: %d wait, want %d", c.name, waiting, len(c.want))
		}
		if got := s.came(); !slices.Equal(got, c.want) {
			t.Errorf("%s: frames %v, want %v", c.name, got, c.want)
		}
		n := uint64(len(c.want))
		if got, want := s.Stats(), (Stats{Seen: 5, Filtered: 5 - n, Accepted: n, Delivered: n}); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
		s.Close()
		all()
		if got := s.came(); got != nil {
			t.Errorf("%s: after Close came %v", c.name, got)
		}
	}
}

// The counters add up also while a frame is being counted: a capture may end at that time.
func TestBooksMeanwhile(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	var s *Subscriber
	judged := 0
	s = open(t, h, Options{Match: func([]byte, int) bool {
		judged++
		if c := s.Stats(); c.Seen != c.Filtered+c.Accepted || c.Seen != uint64(judged-1) {
			t.Errorf("while frame %d is judged: %+v", judged, c)
		}
		return judged%2 == 0
	}})
	for i := range byte(4) {
		n.send(1, 2, i)
	}
	if c := s.Stats(); judged != 4 || c.Seen != 4 || c.Filtered != 2 || c.Accepted != 2 {
		t.Errorf("of %d judged: %+v", judged, c)
	}
}

// What two Subscribers get of one frame has one ID, and different frames have different ones.
func TestHubIDs(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	x, y := open(t, h, Options{}), open(t, h, Options{})
	for i := range byte(3) {
		n.send(1, 2, i)
	}
	ids := func(s *Subscriber) (all []uint64) {
		s.Read(func(r *Record) {
			all = append(all, r.ID)
			if r.In != n.ports[1].Number || r.Out != n.ports[2].Number || r.Verdict != vswitch.Forwarded {
				t.Errorf("%+v", r)
			}
		})
		return all
	}
	if a, b := ids(x), ids(y); !slices.Equal(a, b) || len(slices.Compact(a)) != 3 || a[0] == 0 {
		t.Errorf("IDs are %v and %v", a, b)
	}
}

// A Subscriber to headers gets no payload.
func TestHubHeaders(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	s := open(t, h, Options{Headers: true, Snap: 128})
	f := left(t, false, false, 1000, 0)
	n.ports[1].Ingress([]ether.Frame{f})
	if s.Read(func(r *Record) {
		if len(r.Data) != 54 || r.Len != 1054 {
			t.Errorf("%d bytes of %d were kept, want 54 of 1054", len(r.Data), r.Len)
		}
	}) != 1 {
		t.Error("no frame came")
	}
}

// Frames of a network that is added later are copied, those of a removed one are not.
func TestHubNetworks(t *testing.T) {
	h := NewHub()
	s := open(t, h, Options{})
	n := newNet(h, "late")
	n.send(1, 2, 1)
	h.Remove("late")
	h.Remove("never")
	n.send(1, 2, 2)
	if got := s.came(); !slices.Equal(got, []byte{1}) {
		t.Errorf("frames %v, want the first only", got)
	}
}

// A Subscriber that nobody reads costs frames nothing but their copies, and the counters add up, also while many come.
func TestStuckReader(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	stuck := open(t, h, Options{Ring: 1 << 18})
	read := open(t, h, Options{})
	var wg sync.WaitGroup
	const frames = 20_000
	for src := byte(1); src <= 2; src++ {
		wg.Go(func() {
			for range frames {
				n.send(src, 3, src)
			}
		})
	}
	wg.Wait()
	if got := n.ports[3].Stats().Tx; got != 2*frames {
		t.Errorf("%d frames arrived of %d", got, 2*frames)
	}
	read.Read(func(*Record) {})
	for _, s := range []*Subscriber{stuck, read} {
		c := s.Stats()
		if c.Seen != 2*frames || c.Accepted != c.Seen || c.Accepted != c.Delivered+c.Dropped+c.Waiting {
			t.Errorf("%+v", c)
		}
	}
	if c := stuck.Stats(); c.Dropped == 0 || c.Waiting == 0 || c.Delivered != 0 {
		t.Errorf("of the stuck: %+v", c)
	}
	if c := read.Stats(); c.Delivered != 2*frames {
		t.Errorf("of the other: %+v", c)
	}
}

// Frames that come together are shown as if they had come one by one: to the recorder and to a capture, each once, in
// order, with IDs that both have. None of it allocates.
func TestHubRun(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	seen := open(t, h, Options{})
	odd := open(t, h, Options{Match: func(f []byte, _ int) bool { return f[14]%2 == 1 }})
	kept := open(t, h, Options{Overwrite: true, Snap: 20, Headers: true})
	drops := open(t, h, Options{Overwrite: true, DropsOnly: true})
	frames := make([]ether.Frame, 10)
	for i := range frames {
		frames[i] = to(mac(1), mac(2), byte(i))
	}
	n.ports[1].Ingress(frames)
	ids := map[byte]uint64{}
	last := uint64(0)
	seen.Read(func(r *Record) {
		if ids[r.Data[14]] = r.ID; r.ID <= last {
			t.Errorf("frame %d has ID %d, the one before %d", r.Data[14], r.ID, last)
		}
		last = r.ID
	})
	count := 0
	recent(t, kept.ring, func(r *Record) {
		count++
		if r.In != n.ports[1].Number || r.Out != n.ports[2].Number || r.Verdict != vswitch.Forwarded || r.Len != 64 || len(r.Data) > 20 ||
			r.ID != uint64(count)+ids[0]-1 {
			t.Errorf("kept: %+v", r)
		}
	})
	if count != len(frames) || len(ids) != len(frames) || drops.Stats().Waiting != 0 {
		t.Errorf("%d were kept, %d seen, %d drops", count, len(ids), drops.Stats().Waiting)
	}
	if got := odd.came(); !slices.Equal(got, []byte{1, 3, 5, 7, 9}) {
		t.Errorf("odd: %v", got)
	}
	if s := seen.Stats(); s.Seen != 10 || s.Accepted != 10 || s.Delivered != 10 {
		t.Errorf("%+v", s)
	}
	o := h.networks["one"]
	if allocs := testing.AllocsPerRun(100, func() { o.WatchRun(n.ports[1], n.ports[2], frames) }); allocs != 0 {
		t.Errorf("%v allocations a run, want 0", allocs)
	}
}

// Frames of a container that is gone are selected by its sandbox, for the time of its existence: not those of a later container
// with its address, and not its network's floods from before and after.
func TestWantsGone(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	addr := []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}
	lives := []Port{{Number: 1001, Sandbox: "first"}, {Number: 1002, Sandbox: "job"}, {Number: 1003, Sandbox: "heir"}}
	for i := range lives {
		p := &lives[i]
		p.Network, p.Name, p.Addrs = "one", p.Sandbox, addr
		h.Plug(*p)
		h.Unplug(p.Number)
		*p = *h.port(p.Number)
	}
	h.Plug(Port{Number: 1004, Network: "one", Name: "none", Addrs: addr})
	job := &lives[1]
	if job.AttachedAt == 0 || job.DetachedAt < job.AttachedAt {
		t.Fatalf("it was there from %d to %d", job.AttachedAt, job.DetachedAt)
	}
	a := n.ports[1].Number
	for _, c := range []struct {
		what string
		r    Record
		want bool
	}{
		{"from it", Record{In: 1002, Out: a}, true},
		{"to it", Record{In: a, Out: 1002}, true},
		{"from who had the address before, and may have been the same", Record{In: 1001, Out: a}, true},
		{"from who has it after", Record{In: 1003, Out: a}, false},
		{"from who has it now", Record{In: 1004, Out: a}, false},
		{"of others", Record{In: a, Out: n.ports[2].Number}, false},
		{"flooded in its time", Record{In: a, Verdict: vswitch.Flooded, Time: job.AttachedAt}, true},
		{"flooded in its time", Record{In: a, Verdict: vswitch.Flooded, Time: job.DetachedAt}, true},
		{"flooded before", Record{In: a, Verdict: vswitch.Flooded, Time: lives[0].AttachedAt - 1}, false},
		{"flooded after", Record{In: a, Verdict: vswitch.Flooded, Time: job.DetachedAt + 1}, false},
	} {
		if got := h.Matcher(Targets{Some: true, Sandboxes: map[string]bool{"job": true}})(&c.r); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	young := h.Matcher(Targets{Some: true, Sandboxes: map[string]bool{"job": true}, StartedAt: map[string]int64{"job": job.AttachedAt}})
	if young(&Record{In: 1001, Out: a}) || !young(&Record{In: 1002, Out: a}) {
		t.Error("who had the address before it was made is not it")
	}
	if all := h.Ports(Targets{Some: true, Sandboxes: map[string]bool{"job": true, "": true}}); len(all) != 1 || all[0].Number != 1002 {
		t.Errorf("the sandbox is that of %v", all)
	}
	if h.Matcher(Targets{Some: true, Sandboxes: map[string]bool{"": true}})(&Record{In: 1004}) {
		t.Error("no sandbox is the name of every port without one")
	}
}

// A capture of a sandbox begins when its port is told the sandbox.
func TestSandboxIsTaken(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	s := open(t, h, Options{Targets: Targets{Some: true, Sandboxes: map[string]bool{"job": true}}})
	n.send(1, 2, 1)
	all := open(t, h, Options{})
	all.NewPorts()
	h.Plug(Port{Number: 2000, Network: "one"})
	if fresh := all.NewPorts(); len(fresh) != 1 {
		t.Errorf("fresh are %v", fresh)
	}
	h.SetSandbox(2000, "new")
	h.SetSandbox(n.ports[1].Number, "job")
	if fresh := all.NewPorts(); len(fresh) != 0 {
		t.Errorf("what is looked at already is fresh again: %v", fresh)
	}
	h.SetSandbox(n.ports[1].Number, "job")
	h.SetSandbox(n.ports[3].Number, "other")
	h.SetSandbox(99999, "job")
	n.send(1, 2, 2)
	n.send(3, 2, 3)
	if got := s.came(); !slices.Equal(got, []byte{2}) {
		t.Errorf("frames %v, want the second", got)
	}
	if fresh := s.NewPorts(); len(fresh) != 1 || fresh[0].Sandbox != "job" {
		t.Errorf("fresh are %v", fresh)
	}
}
