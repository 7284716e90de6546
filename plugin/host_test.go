package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	addresses "github.com/tapestry-net/tapestry/ipam"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) {
	drain = testhost.Patience
	testhost.Main(m)
}

const (
	netID   = "9f1c0a7e5b3d2846f0e1d2c3b4a5968778695a4b3c2d1e0f6482d3b5e7a0c1f9"
	epID    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	nodeNet = "x7s1k2m9qz0p4r8t6v3w5y1ab" // of a Swarm
)

// fakeBackend records its calls.
type fakeBackend struct {
	attachment fabric.Attachment
	fail       error                           // of every call
	hook       func(ctx context.Context) error // instead of fail

	mu        sync.Mutex
	calls     []string         // method and ids
	networks  []fabric.Network // created or allocated
	endpoints []fabric.Endpoint
}

func (r *fakeBackend) note(ctx context.Context, call ...string) error {
	r.mu.Lock()
	r.calls = append(r.calls, strings.Join(call, " "))
	r.mu.Unlock()
	if r.hook != nil {
		return r.hook(ctx)
	}
	return r.fail
}

func (r *fakeBackend) CreateNetwork(ctx context.Context, n fabric.Network) error {
	r.mu.Lock()
	r.networks = append(r.networks, n)
	r.mu.Unlock()
	return r.note(ctx, "CreateNetwork", n.ID)
}

func (r *fakeBackend) DeleteNetwork(ctx context.Context, id string) error {
	return r.note(ctx, "DeleteNetwork", id)
}

func (r *fakeBackend) CreateEndpoint(ctx context.Context, network string, e fabric.Endpoint) (ether.MAC, error) {
	r.mu.Lock()
	r.endpoints = append(r.endpoints, e)
	r.mu.Unlock()
	return e.MAC, r.note(ctx, "CreateEndpoint", network, e.ID)
}

func (r *fakeBackend) DeleteEndpoint(ctx context.Context, network, id string) error {
	return r.note(ctx, "DeleteEndpoint", network, id)
}

func (r *fakeBackend) Join(ctx context.Context, network, id, sandbox string) (fabric.Attachment, error) {
	return r.attachment, r.note(ctx, "Join", network, id, sandbox)
}

func (r *fakeBackend) Leave(ctx context.Context, network, id string) error {
	return r.note(ctx, "Leave", network, id)
}

// Allocate returns the VNI that was asked for, or 4711.
func (r *fakeBackend) Allocate(ctx context.Context, n fabric.Network, again bool) (uint32, error) {
	r.mu.Lock()
	r.networks = append(r.networks, n)
	r.mu.Unlock()
	return cmp.Or(n.VNI, 4711), r.note(ctx, "Allocate", n.ID, fmt.Sprint(again))
}

func (r *fakeBackend) Free(ctx context.Context, id string) error { return r.note(ctx, "Free", id) }

func (r *fakeBackend) NodeJoined(ctx context.Context, addr netip.Addr, self bool) error {
	return r.note(ctx, "NodeJoined", addr.String(), fmt.Sprint(self))
}

func (r *fakeBackend) NodeLeft(ctx context.Context, addr netip.Addr) error {
	return r.note(ctx, "NodeLeft", addr.String())
}

// serving is the handler over r, logging to the test.
func serving(t testing.TB, r *fakeBackend) *handler {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return newHandler(&Driver{backend: r, scope: Local}, testIPAM(t), log, deadline)
}

// post sends one request to h and returns the status and the reply, which must be a JSON object.
func post(t testing.TB, h http.Handler, path, body string) (int, map[string]any) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	req.URL.Path = path
	return reply(t, h, req)
}

func reply(t testing.TB, h http.Handler, req *http.Request) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got == nil {
		t.Fatalf("%s %s: reply %q is no JSON object: %v", req.Method, req.URL.Path, w.Body, err)
	}
	if ct := w.Header().Get("Content-Type"); ct != contentType {
		t.Errorf("Content-Type %q, want %q", ct, contentType)
	}
	return w.Code, got
}

// mustRefuse checks that the reply is an error that contains all the words.
func mustRefuse(t testing.TB, status, wantStatus int, got map[string]any, words ...string) {
	t.Helper()
	text, _ := got["Err"].(string)
	if status != wantStatus || text == "" {
		t.Fatalf("status %d, reply %v; want status %d and an Err", status, got, wantStatus)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("Err %q lacks %q", text, w)
		}
	}
}

// mustWork checks that the reply is no error.
func mustWork(t testing.TB, status int, got map[string]any) {
	t.Helper()
	if _, bad := got["Err"]; bad || status != http.StatusOK {
		t.Fatalf("status %d, reply %v; want 200 and no Err", status, got)
	}
}

// object writes v as JSON.
func object(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testIPAM is an IPAM driver of a host that is in no cluster, and whose networks show nothing.
func testIPAM(t testing.TB) *IPAM {
	t.Helper()
	dir := t.TempDir()
	testhost.Must(t, os.MkdirAll(dir+"/networks", 0o700))
	m, err := addresses.Open(addresses.Config{Dir: dir, Evidence: noEvidence{}})
	testhost.Must(t, err)
	t.Cleanup(m.Close)
	return NewIPAM(m)
}

type noEvidence struct{}

func (noEvidence) HasSubnet(string, netip.Prefix) bool           { return false }
func (noEvidence) HasAddr(string, netip.Prefix, netip.Addr) bool { return false }
