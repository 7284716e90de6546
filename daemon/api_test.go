package daemon_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/test/fake"
)

// Requests that no command of this version sends, but another program may.
func TestAPIRefuses(t *testing.T) {
	h := fake.NewFabric()
	a := (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel"}).Handler()
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"unknown network", "GET", "/v1/ports?network=nowhere", "", http.StatusNotFound},
		{"unknown path", "GET", "/v1/frames", "", http.StatusNotFound},
		{"wrong method", "POST", "/v1/ports", "{}", http.StatusMethodNotAllowed},
		{"empty body", "POST", "/v1/peers/add", "", http.StatusBadRequest},
		{"wrong type", "POST", "/v1/peers/add", `{"network": 7}`, http.StatusBadRequest},
		{"bad peer", "POST", "/v1/peers/add", `{"network": "` + fake.WideID + `", "addr": "web:0"}`, http.StatusBadRequest},
		{"too large", "POST", "/v1/peers/add", `{"network": "` + strings.Repeat("a", 70<<10) + `"}`, http.StatusBadRequest},
		{"add to an unknown network", "POST", "/v1/peers/add", `{"network": "nowhere", "addr": "192.0.2.3"}`, http.StatusNotFound},
		{"rm from an unknown network", "POST", "/v1/peers/rm", `{"network": "nowhere", "addr": "192.0.2.3"}`, http.StatusNotFound},
		{"rm of what is not there", "POST", "/v1/peers/rm", `{"network": "` + fake.WideID + `", "addr": "192.0.2.3"}`, http.StatusNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
			if w.Code != c.status {
				t.Errorf("HTTP %d, want %d: %s", w.Code, c.status, w.Body)
			}
		})
	}
	if len(h.Addrs) != 2 {
		t.Errorf("refused requests changed the peers to %v", h.Addrs)
	}
}
