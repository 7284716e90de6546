package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/fabric"
)

func TestBadRequests(t *testing.T) {
	const create = "/NetworkDriver.CreateNetwork"
	for _, tc := range []struct {
		name, path, body string
		status           int
		want             []string
	}{
		{"blank body", create, " \n", 400, []string{"empty request body"}},
		{"cut off", create, `{"NetworkID":"abc`, 400, []string{"is no JSON"}},
		{"trailing garbage", create, `{"NetworkID":"abc"} x`, 400, []string{"is no JSON", "after top-level value"}},
		{"two objects", create, `{"NetworkID":"abc"}{}`, 400, []string{"is no JSON"}},
		{"null", create, `null`, 400, []string{"no JSON object"}},
		{"array", create, `[]`, 400, []string{"no JSON object"}},
		{"string", create, `"x"`, 400, []string{"no JSON object"}},
		{"id as a number", create, `{"NetworkID":5}`, 400, []string{"NetworkID: want a string, got JSON number"}},
		{"options as text", create, `{"NetworkID":"a","Options":"x"}`, 400, []string{"Options: want an object, got JSON string"}},
		{"pools as an object", create, `{"NetworkID":"a","IPv4Data":{}}`, 400, []string{"IPv4Data: want an array, got JSON object"}},
		{"pool as a number", create, `{"NetworkID":"a","IPv4Data":[{"Pool":7}]}`, 400, []string{"IPv4Data.Pool: want a string, got JSON number"}},
		{"generic as text", create, `{"NetworkID":"a","Options":{"com.docker.network.generic":"x"}}`, 200, []string{"com.docker.network.generic: want an object", "got a string"}},
		{"interface as text", "/NetworkDriver.CreateEndpoint", `{"NetworkID":"a","EndpointID":"b","Interface":"x"}`, 400, []string{"Interface: want an object"}},
		{"MAC as an array", "/NetworkDriver.CreateEndpoint", `{"NetworkID":"a","EndpointID":"b","Interface":{"MacAddress":[2]}}`, 400, []string{"Interface.MacAddress: want a string, got JSON array"}},
		{"sandbox as a boolean", "/NetworkDriver.Join", `{"NetworkID":"a","EndpointID":"b","SandboxKey":true}`, 400, []string{"SandboxKey: want a string, got JSON bool"}},
		{"allocate as an array", "/NetworkDriver.AllocateNetwork", `{"Options":[]}`, 400, []string{"Options: want an object"}},
		{"2 MiB", create, `{"NetworkID":"` + strings.Repeat("a", 2<<20) + `"}`, 413, []string{"longer than 1048576 bytes"}},
		{"2 MiB where nothing is read", "/NetworkDriver.EndpointOperInfo", strings.Repeat("a", 2<<20), 413, []string{"longer than"}},
		{"unknown method", "/NetworkDriver.Explode", `{}`, 404, []string{"NetworkDriver.Explode: no such method"}},
		{"unknown method of IPAM", "/IpamDriver.Explode", `{}`, 404, []string{"IpamDriver.Explode: no such method"}},
		{"pool as a number", "/IpamDriver.RequestPool", `{"Pool":7}`, 400, []string{"Pool: want a string, got JSON number"}},
		{"root", "/", ``, 404, []string{"no such method"}},
		{"unclean path", "//NetworkDriver.Join/../", `{}`, 404, []string{"no such method"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{}
			status, got := post(t, newHandler(&Driver{backend: r}, testIPAM(t), nil, deadline), tc.path, tc.body)
			mustRefuse(t, status, tc.status, got, tc.want...)
			if len(r.calls) != 0 {
				t.Errorf("fabric was called: %v", r.calls)
			}
		})
	}
}

// A body of exactly the limit is read.
func TestLargestBody(t *testing.T) {
	body := `{"NetworkID":"` + netID + `"}`
	body += strings.Repeat(" ", maxBody-len(body))
	status, got := post(t, newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline), "/NetworkDriver.DeleteNetwork", body)
	mustWork(t, status, got)
}

// dockerd's retry after a lost connection has no body: it must not do anything, and must say why.
func TestEmptyBody(t *testing.T) {
	r := &fakeBackend{}
	h := serving(t, r)
	for path := range bodies() {
		status, got := post(t, h, path, "")
		mustRefuse(t, status, 400, got, "empty request body: the daemon retried after a lost connection; nothing was done")
	}
	if len(r.calls) != 0 {
		t.Errorf("fabric was called: %v", r.calls)
	}
	status, got := post(t, h, "/NetworkDriver.CreateEndpoint", newCreateEndpoint)
	mustWork(t, status, got)
}

func TestOnlyPOST(t *testing.T) {
	h := serving(t, &fakeBackend{})
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		req := httptest.NewRequest(m, "/Plugin.Activate", nil)
		status, got := reply(t, h, req)
		mustRefuse(t, status, 405, got, m+" /Plugin.Activate: want POST")
	}
}

func TestPanicIsContained(t *testing.T) {
	var log bytes.Buffer
	r := &fakeBackend{hook: func(context.Context) error { panic("fault hook") }}
	h := newHandler(&Driver{backend: r}, testIPAM(t), slog.New(slog.NewTextHandler(&log, nil)), deadline)
	for path, body := range bodies() {
		status, got := post(t, h, path, body)
		mustRefuse(t, status, 500, got, "tapestry has a bug: fault hook")
	}
	for _, want := range []string{"level=ERROR", "stack=", "TestPanicIsContained", "method=NetworkDriver.Join", "network=" + netID, "endpoint=" + epID} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &log)
		}
	}
	r.hook = nil
	status, got := post(t, h, "/NetworkDriver.Leave", bodies()["/NetworkDriver.Leave"])
	mustWork(t, status, got)
}

// A request that panics does not disturb another one that is being answered.
func TestPanicLeavesOthersAlone(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	slow := &fakeBackend{hook: func(context.Context) error { close(entered); <-release; return nil }}
	h := serving(t, slow)
	h.methods["/NetworkDriver.FreeNetwork"] = func(context.Context, []byte) (any, error) { panic("fault hook") }
	type answer struct {
		status int
		got    map[string]any
	}
	answered := make(chan answer)
	go func() {
		status, got := post(t, h, "/NetworkDriver.CreateNetwork", newCreateNetwork)
		answered <- answer{status, got}
	}()
	<-entered
	status, got := post(t, h, "/NetworkDriver.FreeNetwork", `{}`)
	mustRefuse(t, status, 500, got, "fault hook")
	close(release)
	a := <-answered
	mustWork(t, a.status, a.got)
}

func TestDeadline(t *testing.T) {
	ended := errors.New("took the half-made endpoint away")
	for _, tc := range []struct {
		name string
		hook func(ctx context.Context) error
	}{
		{"driver gives up at once", func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("make the link: %w", ctx.Err())
		}},
		{"driver needs a minute more", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return ended
		}},
		{"driver panics late", func(ctx context.Context) error {
			time.Sleep(time.Minute)
			panic("late")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := serving(t, &fakeBackend{hook: tc.hook})
				began := time.Now()
				status, got := post(t, h, "/NetworkDriver.CreateEndpoint", newCreateEndpoint)
				mustRefuse(t, status, 200, got, "NetworkDriver.CreateEndpoint took longer than 10s")
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("answered after %v, want 10s", took)
				}
				time.Sleep(2 * time.Minute) // of the bubble's clock: lets the driver end
			})
		})
	}
}

func TestFastEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serving(t, &fakeBackend{hook: func(context.Context) error { time.Sleep(9 * time.Second); return nil }})
		status, got := post(t, h, "/NetworkDriver.CreateEndpoint", newCreateEndpoint)
		mustWork(t, status, got)
	})
}

// When dockerd closes the connection the driver's context ends, so that the driver can undo what nobody will ask for.
func TestDaemonGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen error
		r := &fakeBackend{hook: func(ctx context.Context) error { <-ctx.Done(); seen = ctx.Err(); return seen }}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/NetworkDriver.CreateEndpoint", strings.NewReader(newCreateEndpoint))
		status, got := reply(t, serving(t, r), req)
		mustRefuse(t, status, 200, got, "context canceled")
		synctest.Wait()
		if !errors.Is(seen, context.Canceled) {
			t.Errorf("driver saw %v, want %v", seen, context.Canceled)
		}
	})
}

func TestBrokenBody(t *testing.T) {
	r := &fakeBackend{}
	req := httptest.NewRequest(http.MethodPost, "/NetworkDriver.Leave", io.MultiReader(strings.NewReader(`{"Net`), broken{}))
	status, got := reply(t, serving(t, r), req)
	mustRefuse(t, status, 400, got, "read the request body: connection reset")
	if len(r.calls) != 0 {
		t.Errorf("fabric was called: %v", r.calls)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestLog(t *testing.T) {
	var log bytes.Buffer
	text := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})
	r := &fakeBackend{attachment: fabric.Attachment{Link: "tp0"}}
	h := newHandler(&Driver{backend: r}, testIPAM(t), slog.New(text), deadline)
	join := bodies()["/NetworkDriver.Join"]
	post(t, h, "/NetworkDriver.Join", join)
	for _, want := range []string{"level=DEBUG", "method=NetworkDriver.Join", "network=" + netID, "endpoint=" + epID, `body="{`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "level=INFO") {
		t.Errorf("a request that succeeds is logged:\n%s", &log)
	}
	r.fail = errors.New("no such endpoint")
	post(t, h, "/NetworkDriver.Join", join)
	if !strings.Contains(log.String(), `level=INFO msg="request refused" method=NetworkDriver.Join`) || !strings.Contains(log.String(), `err="no such endpoint"`) {
		t.Errorf("log lacks the error:\n%s", &log)
	}
}

// TestLogOfLongBody: no line of the log is longer than 64 KiB, which is what dockerd reads of a line of a managed plugin.
func TestLogOfLongBody(t *testing.T) {
	for name, body := range map[string]string{
		"letters": `{"NetworkID":"` + strings.Repeat("f", maxBody-100) + `"}`,
		"escaped": strings.Repeat("\x01", maxBody),
		"no text": strings.Repeat("\xff", maxBody),
	} {
		for _, format := range []func(*bytes.Buffer, *slog.HandlerOptions) slog.Handler{
			func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(b, o) },
			func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(b, o) },
		} {
			var log bytes.Buffer
			h := newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), slog.New(format(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), deadline)
			post(t, h, "/NetworkDriver.CreateNetwork", body)
			if !strings.Contains(log.String(), "bytes)") {
				t.Errorf("%s: the log does not say how long it was", name)
			}
			for line := range strings.Lines(log.String()) {
				if len(line) >= 64<<10 {
					t.Errorf("%s: a line of %d bytes", name, len(line))
				}
			}
		}
	}
}

// TestClientGone: a dockerd that ends in the middle of a request does not harm tapestry.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for level, wait := range map[string]time.Duration{"INFO": deadline / 2, "WARN": 2 * deadline} {
			var log bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			r := &fakeBackend{hook: func(ctx context.Context) error { <-ctx.Done(); return nil }}
			h := newHandler(&Driver{backend: r}, testIPAM(t), slog.New(slog.NewTextHandler(&log, nil)), deadline)
			time.AfterFunc(wait, cancel)
			req := httptest.NewRequest(http.MethodPost, "/NetworkDriver.Leave", strings.NewReader(bodies()["/NetworkDriver.Leave"]))
			h.ServeHTTP(httptest.NewRecorder(), req.WithContext(ctx))
			synctest.Wait()
			if want := "level=" + level + ` msg="request ended when nobody waited`; !strings.Contains(log.String(), want) {
				t.Errorf("after %v: log lacks %s:\n%s", wait, want, &log)
			}
			cancel()
		}
	})
}
