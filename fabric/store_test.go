package fabric

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/tap"
)

// sample is a record with something in every field.
func sample() record {
	n := wide(1, 80, "192.0.2.2")
	n.Ageing, n.MTU, n.Attach = time.Minute, 1400, tap.Direct
	e := ep(3)
	e.IfName = "net0"
	e.Addrs = append(e.Addrs, netip.MustParsePrefix("fd77::3/64"))
	return record{Network: n, Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:4790")},
		Endpoints: []endpointRecord{{Endpoint: e, MTU: 1400, Sandbox: "/run/docker/netns/abc"}, {Endpoint: ep(4), MTU: 1400}}}
}

func TestStore(t *testing.T) {
	empty := sample()
	empty.Network.Peers, empty.Peers, empty.Network.Pools = []netip.AddrPort{}, []netip.AddrPort{}, nil
	for name, want := range map[string]record{
		"full":     sample(),
		"no peers": empty,
		"plain":    {Network: local(1)},
	} {
		t.Run(name, func(t *testing.T) {
			s := store{t.TempDir()}
			if got, err := s.load(); err != nil || got != nil {
				t.Fatalf("an empty directory has %v, %v", got, err)
			}
			if err := s.prepare(); err != nil {
				t.Fatal(err)
			}
			unfinished := filepath.Join(s.networks(), "."+want.Network.ID+".json123")
			if err := os.WriteFile(unfinished, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := s.load(); err != nil || got != nil {
				t.Fatalf("an unfinished file is %v, %v", got, err)
			}
			if err := s.prepare(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.save(want); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.load()
			if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
			info, err := os.Stat(s.path(want.Network.ID))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is %v, %v", info.Mode(), err)
			}
			if files, _ := os.ReadDir(s.networks()); len(files) != 1 {
				t.Errorf("%d files, want one", len(files))
			}
			for range 2 {
				if err := s.remove(want.Network.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.load(); err != nil || got != nil {
				t.Errorf("after remove there is %v, %v", got, err)
			}
		})
	}
}

func TestStoreRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (store{file}).save(sample()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("saved under a file: %v", err)
	}
	if _, err := (store{file}).load(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("loaded from under a file: %v", err)
	}
}

// A file that ends early, wherever it does, is an error that names it, and stays as it is.
func TestTorn(t *testing.T) {
	h := newHost(t)
	h.close()
	whole, err := encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store0().save(sample()); err != nil {
		t.Fatal(err)
	}
	path := h.store0().path(netID(1))
	for n := range len(whole) - 1 { // the last byte is the line's end
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(h.cfg)
		if err == nil {
			_ = f.Close()
			t.Fatalf("opened with %d of %d bytes", n, len(whole))
		}
		if !strings.Contains(err.Error(), path) {
			t.Fatalf("%d bytes: the error does not name the file: %v", n, err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, whole[:n]) {
			t.Fatalf("%d bytes: the file was changed: %v", n, err)
		}
	}
	if len(h.m.links) != 0 {
		t.Error("links were made")
	}
}

// store0 is the store of a host whose daemon is not running.
func (h *host) store0() store { return store{h.cfg.Dir} }

// No bit of a state file can change unnoticed: it is an error, or (white space, the case of a key
// outside the record) means the same.
func TestBitFlips(t *testing.T) {
	want := sample()
	whole, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			got, err := decodeRecord(b)
			if err != nil {
				noticed++
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("bit %d of byte %d (%q in %q): read as another record", bit, i, whole[i], whole[max(0, i-20):i+1])
			}
		}
	}
	if most := len(whole) * 8 * 9 / 10; noticed < most {
		t.Errorf("%d of %d flips were noticed, want more than %d", noticed, len(whole)*8, most)
	}
}

func TestDecodeRecord(t *testing.T) {
	file := func(version any, body string) string {
		b, err := json.Marshal(map[string]any{"version": version, "sum": sum([]byte(body)), "record": json.RawMessage(body)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct{ name, file, want string }{
		{"nothing", "", "not whole"},
		{"a list", "[]", "not whole"},
		{"null", "null", "version 0"},
		{"no version", `{"sum":"","record":{}}`, "version 0"},
		{"a newer version", file(2, `{}`), "it is of version 2 and this tapestry reads version 1, so run the tapestry that wrote it"},
		{"a newer version with more in it", `{"version":7,"seal":{"by":"someone"}}`, "it is of version 7"},
		{"version as text", file("1", `{}`), "not whole"},
		{"no record", `{"version":1,"sum":""}`, "its record"},
		{"another sum", `{"version":1,"sum":"00","record":{}}`, "has changed"},
		{"an unknown field", file(1, `{"network":{},"colour":"red"}`), "colour"},
		{"a wrong type", file(1, `{"network":5}`), "not whole"},
		{"a bad address", file(1, `{"network":{"pools":["10.0.0.0/33"]}}`), "not whole"},
		{"something behind it", file(1, `{}`) + "{}", "not whole"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r, err := decodeRecord([]byte(tc.file)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, tc.want)
			}
		})
	}
}

// What is no record does not matter; a record under another's name does.
func TestExtraFiles(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.close()
	dir := h.store0().networks()
	for _, name := range []string{".abc.json123", ".hidden.json", "notes.txt", "abc.json~", "abc.jsn"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("no json"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.start()
	if got := h.Networks(); len(got) != 1 || got[0].ID != netID(1) {
		t.Errorf("networks are %+v", got)
	}
	h.close()
	b, err := os.ReadFile(h.store0().path(netID(1)))
	if err != nil {
		t.Fatal(err)
	}
	other := h.store0().path(netID(2))
	if err := os.WriteFile(other, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), netID(1)) {
		t.Errorf("a copy under another name: %v", err)
	}
}

// Any bytes are read without panic, and what is read is written as it was.
func FuzzState(f *testing.F) {
	for _, r := range []record{sample(), {Network: local(1)}, {}} {
		b, err := encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"sum":"` + sum([]byte("null")) + `","record":null}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			r, err := decodeRecord(b)
			if err != nil {
				return
			}
			again, err := encode(r)
			if err != nil {
				t.Fatalf("read but not written: %v", err)
			}
			r2, err := decodeRecord(again)
			if err != nil {
				t.Fatalf("written but not read: %v", err)
			}
			if third, err := encode(r2); err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%s is written as %s, %v", again, third, err)
			}
		}
		check(b)
		// The same bytes as a record whose sum is right: else no fuzzer gets behind it.
		var body bytes.Buffer
		if json.Compact(&body, b) == nil {
			check([]byte(`{"version":1,"sum":"` + sum(body.Bytes()) + `","record":` + string(b) + `}`))
		}
	})
}
