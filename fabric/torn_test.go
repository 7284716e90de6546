package fabric

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// A file that ends early, wherever it does, is an error that names it, and stays as it is.
func TestTorn(t *testing.T) {
	h := newHost(t)
	h.close()
	r := state.Record{Network: wide(1, 80, "192.0.2.2"), Peers: []netip.AddrPort{addrPort("192.0.2.9:4790")},
		Endpoints: []state.EndpointRecord{{Endpoint: ep(3), MTU: 1400, Sandbox: "/run/docker/netns/abc"}, {Endpoint: ep(4), MTU: 1400}}}
	if err := h.stateDir().Save(r); err != nil {
		t.Fatal(err)
	}
	path := h.stateDir().Network(netID(1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
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

// stateDir is the state directory of a host whose daemon is not running.
func (h *host) stateDir() state.Dir { return state.Dir(h.cfg.Dir) }

// What is no record does not matter; a record under another's name does.
func TestExtraFiles(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.close()
	dir := h.stateDir().Networks()
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
	b, err := os.ReadFile(h.stateDir().Network(netID(1)))
	if err != nil {
		t.Fatal(err)
	}
	other := h.stateDir().Network(netID(2))
	if err := os.WriteFile(other, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), netID(1)) {
		t.Errorf("a copy under another name: %v", err)
	}
}
