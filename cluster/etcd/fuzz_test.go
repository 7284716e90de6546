package etcd

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
)

var fuzzLayout = newLayout("/tapestry", "test")

// FuzzKeys: a key that is read is what would be written.
func FuzzKeys(f *testing.F) {
	id := conformance.Self(1).ID
	for _, seed := range []string{
		fuzzLayout.alive(id), fuzzLayout.record(id), fuzzLayout.hosts(), fuzzLayout.allBlocks(), fuzzLayout.block("blue", netip.MustParsePrefix("10.50.1.0/26")),
		fuzzLayout.block("blue", netip.MustParsePrefix("fd00::/64")), "/tapestry/test/blocks/blue/4/0a320001/26", "/tapestry/test/blocks/blue/6/0a320000/26",
		"/tapestry/test/blocks/blue/4/0A320000/26", "/tapestry/test/blocks/blue/4/0a320000/026", "/tapestry/test/blocks/blue/4/0a320000/33",
		"/tapestry/test/blocks/../4/0a320000/26", "/tapestry/test/hosts/x/alive", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, k string) {
		if key, b, err := fuzzLayout.parseBlock(k); err == nil && (fuzzLayout.block(key, b) != k || b != b.Masked() || cluster.CheckKey(key) != nil) {
			t.Errorf("%q is read as %q, %v", k, key, b)
		}
		id, what, err := fuzzLayout.parseHost(k)
		if err != nil {
			return
		}
		if is := map[string]string{"alive": fuzzLayout.alive(id), "record": fuzzLayout.record(id)}[what]; is != k || checkID(string(id)) != nil {
			t.Errorf("%q is read as %s of %q", k, what, id)
		}
	})
}

// FuzzAlive: what is read is what would be written, but for what a newer version has added.
func FuzzAlive(f *testing.F) {
	f.Add([]byte(aliveValue(7, "0123456789abcdef")))
	f.Add([]byte(`{"version":2,"epoch":7,"more":[]}`))
	f.Add([]byte(`{"epoch":7}`))
	f.Add([]byte(`{"version":1,"epoch":-1}`))
	f.Add([]byte(`7`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAlive(b)
		if err != nil {
			return
		}
		if again, err := parseAlive([]byte(aliveValue(a.Epoch, a.Run))); err != nil || again.Epoch != a.Epoch {
			t.Errorf("%s is read as %+v", b, a)
		}
	})
}

// FuzzAgreed: a network that is read has a valid spec with a VNI, of a valid host.
func FuzzAgreed(f *testing.F) {
	spec := blue
	spec.VNI = 80
	f.Add("blue", []byte(agreedValue(spec, conformance.Self(1))))
	f.Add("green", []byte(agreedValue(spec, conformance.Self(1))))
	f.Add("blue", []byte(agreedValue(blue, conformance.Self(1))))
	f.Add("blue", []byte(agreedValue(spec, cluster.Host{})))
	f.Add("blue", []byte(`{"version":2}`))
	f.Add("blue", []byte(`{`))
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		a, err := parseAgreed(key, b)
		if err != nil {
			return
		}
		if a.Spec.Check() != nil || a.Spec.Key != key || a.Spec.VNI == 0 || a.By.Check() != nil {
			t.Fatalf("%+v is accepted", a)
		}
		if again, err := parseAgreed(key, []byte(agreedValue(a.Spec, a.By))); err != nil || again.Spec.Differs(a.Spec) != "" || again.By != a.By {
			t.Errorf("%+v is read as %+v, %v", a, again, err)
		}
	})
}

// FuzzView: whatever etcd tells, in whatever order, what others are told is consistent: never this host, never an entry that is removed
// by the same update, always a record of that host.
func FuzzView(f *testing.F) {
	record := func(i int) []byte {
		b, err := (&cluster.Record{Host: conformance.Self(i)}).Encode()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, record(2))
	f.Add([]byte{8, 1, 9, 1, 10, 64, 65}, record(3))
	f.Add([]byte{0xff, 1, 0xff, 2}, []byte("{"))
	f.Add([]byte{1, 129, 1, 129}, record(1))
	f.Fuzz(func(t *testing.T, steps, value []byte) {
		self := conformance.Self(1).ID
		v, now, known := newView(self, testTTL, cluster.Decode), time.Unix(0, 0), map[cluster.HostID]bool{}
		check := func(u cluster.Update) {
			if u.Full {
				clear(known)
			}
			for _, e := range u.Entries {
				if e.ID == self || slices.Contains(u.Removed, e.ID) || v.hosts[e.ID] == nil {
					t.Fatalf("told of %+v", u)
				}
				known[e.ID] = true
			}
			for _, id := range u.Removed {
				delete(known, id)
			}
			for id, s := range v.hosts {
				if (s.record != nil) != known[id] {
					t.Fatalf("host %s: known %v, told %v", id, s.record != nil, known[id])
				}
			}
		}
		bad := func(error) {}
		check(v.list(nil, fuzzLayout, now, bad))
		for _, step := range steps {
			now = now.Add(time.Duration(step>>4) * time.Second)
			id := conformance.Self(int(step & 3)).ID
			kv := &mvccpb.KeyValue{Key: []byte(fuzzLayout.record(id)), Value: value}
			if step&4 != 0 {
				kv.Key = []byte(fuzzLayout.alive(id))
			}
			if step&8 != 0 {
				ev := &mvccpb.Event{Kv: kv}
				if step&16 != 0 {
					ev.Type = mvccpb.Event_DELETE
				}
				check(v.events([]*mvccpb.Event{ev, ev}, fuzzLayout, now, bad))
			} else if step&16 != 0 {
				check(v.list([]*mvccpb.KeyValue{kv}, fuzzLayout, now, bad))
			}
			u, _ := v.tick(now, time.Hour)
			check(u)
		}
	})
}
