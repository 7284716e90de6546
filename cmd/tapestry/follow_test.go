package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// liveDaemon is the API over a fakeHost, and one capture that shows what the test says.
type liveDaemon struct {
	c       *client
	changes chan captureChange
	write   chan func(*pcapng.Writer)
	ports   int
}

func newLiveDaemon(t *testing.T, docker string) *liveDaemon {
	d := &liveDaemon{changes: make(chan captureChange, 100), write: make(chan func(*pcapng.Writer), 1000)}
	a := &api{host: newFakeHost(), log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	mux.Handle("/", a.handler())
	mux.HandleFunc("POST /v1/captures", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until then nobody hears the client hang up
		w.Header().Set("X-Capture-Id", "7")
		out := pcapng.NewWriter(w, pcapng.Section{})
		for {
			_ = out.Flush()
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case do, ok := <-d.write:
				if !ok {
					return
				}
				do(out)
			}
		}
	})
	mux.HandleFunc("PATCH /v1/captures/7", func(w http.ResponseWriter, r *http.Request) {
		var what captureChange
		if err := json.NewDecoder(r.Body).Decode(&what); err != nil {
			t.Error(err)
		}
		d.changes <- what
		reply(w, http.StatusOK, struct{}{})
	})
	d.c = &client{socket: serveUnix(t, "tapestry.sock", mux), dockerHost: docker}
	return d
}

func (d *liveDaemon) port(kind, network, name string) (index int) {
	d.ports++
	about := fmt.Sprintf("port=%d kind=%s network=%s vni=80 link=x", d.ports, kind, network)
	d.write <- func(w *pcapng.Writer) {
		_, _ = w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet, Name: name, Description: about})
	}
	return d.ports - 1
}

func (d *liveDaemon) frame(in int, text string) {
	detail := capture.Detail{Verdict: vswitch.MTU, Out: -1, In: in}
	d.write <- func(w *pcapng.Writer) {
		_ = w.WritePacket(&pcapng.Packet{Interface: in, Time: 1, Data: []byte(text), Queue: -1, Verdict: detail.AppendTo(nil)})
	}
}

// A pursuit is a capture that is followed, and its blocks as describe writes them.
type pursuit struct {
	*followed
	t    *testing.T
	read chan string
}

func pursue(t *testing.T, d *liveDaemon, expr string, words ...string) *pursuit {
	t.Helper()
	n, err := d.c.names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tg, err := d.c.targets(t.Context(), n, words, future)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	s, err := d.c.openStream(ctx, "/v1/captures", captureRequest{Targets: tg.Request(), Detail: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &pursuit{d.c.follow(ctx, s, n, tg, expr), t, make(chan string, 1000)}
	t.Cleanup(func() { _ = s.Close() })
	go func() {
		defer close(p.read)
		var given []string
		for {
			b, err := p.Next()
			if err != nil {
				return
			}
			if text := describe(b, &given); text != "*pcapng.Section" {
				p.read <- text
			}
		}
	}()
	return p
}

// await waits for the blocks that want lists, and for no other.
func (p *pursuit) await(want string) {
	p.t.Helper()
	for _, want := range strings.Fields(want) {
		if got := receive(p.t, p.read); got != want {
			p.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
	}
	return got
}

// until waits for what changes by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not ", what)
		}
	}
}

func TestFollowRestart(t *testing.T) {
	docker := newLiveDocker(t)
	docker.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.at)
	p := pursue(t, d, "", "web")
	receive(t, docker.came)
	web := d.port("container", wideID, webID)
	d.frame(web, "a")
	p.await(webID + ": a@" + webID)

	// It stops, another starts, then it starts: Docker shows it last.
	docker.leave(wideID, webContainer)
	docker.tell("network", "disconnect", wideID)
	db := d.port("container", wideID, dbID)
	d.frame(db, "b")
	again := d.port("container", wideID, newID)
	d.frame(again, "first")
	docker.join(wideID, dbContainer, "db", dbID, "10.80.1.2/16")
	docker.tell("network", "connect", wideID)
	until(t, "judged", func() bool { return p.Discarded() == 1 })
	what := receive(t, d.changes)
	if want := (captureTargets{Endpoints: []string{newID}, New: true, Some: true, Since: 3}); what.Targets == nil || targetsText(*what.Targets) != targetsText(want) {
		t.Errorf("the daemon is told %+v, want %+v", what.Targets, want)
	}
	docker.join(wideID, webContainer, "web", newID, "10.80.1.3/16")
	docker.tell("network", "connect", wideID)
	p.await(newID + ": first@" + newID)
	d.frame(db, "c")
	d.frame(again, "second")
	p.await("second@" + newID)
	if p.Held() != 0 || p.Discarded() != 2 {
		t.Errorf("held %d, discarded %d", p.Held(), p.Discarded())
	}

	// Renamed and started again it is still followed.
	docker.join(wideID, webContainer, "front", newID, "10.80.1.3/16")
	docker.tell("container", "rename", webContainer)
	until(t, "renamed", func() bool { return p.n.Container(newID) == "front" })
	d.frame(again, "third")
	p.await("third@" + newID)
	third := d.port("container", localID, "another")
	d.frame(third, "fourth")
	docker.join(localID, webContainer, "front", "another", "")
	docker.tell("network", "connect", localID)
	p.await("another: fourth@another")
	close(d.write)
	until(t, "ended", func() bool { return p.ctx.Err() != nil })
}

func targetsText(t captureTargets) string {
	text, _ := json.Marshal(t)
	return string(text)
}

// TestFollowWait: a container that was not there is captured from its first frame, also if Docker tells no events.
func TestFollowWait(t *testing.T) {
	docker := newLiveDocker(t)
	d := newLiveDaemon(t, docker.at)
	p := pursue(t, d, "", "later")
	receive(t, docker.came)
	later := d.port("container", wideID, newID)
	d.frame(later, "first")
	docker.join(wideID, webContainer, "later", newID, "10.80.1.2/16")
	p.await(newID + ": first@" + newID)
	if got := receive(t, d.changes).Targets.Endpoints; !slices.Equal(got, []string{newID}) {
		t.Errorf("the daemon is told %q", got)
	}
	// Of another's new port the daemon is told that it is not wanted.
	docker.join(wideID, dbContainer, "db", dbID, "10.80.1.3/16")
	d.port("container", wideID, dbID)
	want := captureTargets{Endpoints: []string{newID}, New: true, Some: true, Since: 2}
	if got := receive(t, d.changes).Targets; got == nil || targetsText(*got) != targetsText(want) {
		t.Errorf("the daemon is told %+v, want %+v", got, want)
	}
}

func TestFollowReconnects(t *testing.T) {
	docker := newLiveDocker(t)
	docker.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.at)
	p := pursue(t, d, "", "network:wide")
	receive(t, docker.came)
	docker.mu.Lock()
	docker.down = true
	docker.mu.Unlock()
	docker.hangUp()
	until(t, "asked in vain", func() bool { return docker.count("/networks/"+wideID) > 2 })
	if got := p.n.Container(webID); got != "web" {
		t.Errorf("while Docker is away it is %q", got)
	}
	docker.join(wideID, webContainer, "renamed", webID, "10.80.1.2/16")
	docker.mu.Lock()
	docker.down = false
	docker.mu.Unlock()
	receive(t, docker.came)
	until(t, "named", func() bool { return p.n.Container(webID) == "renamed" })
}

// TestFollowNames: the names of new ports come also where nothing is to be judged.
func TestFollowNames(t *testing.T) {
	docker := newLiveDocker(t)
	d := newLiveDaemon(t, docker.at)
	p := pursue(t, d, "", "network:wide")
	db := d.port("container", wideID, dbID)
	d.frame(db, "a")
	p.await(dbID + ": a@" + dbID)
	before := p.n.Version()
	docker.join(wideID, dbContainer, "db", dbID, "10.80.1.3/16")
	until(t, "named", func() bool { return p.n.Container(dbID) == "db" && p.n.Version() > before })
	if len(d.changes) != 0 {
		t.Errorf("the daemon is told %+v", <-d.changes)
	}
}

func TestFollowFilter(t *testing.T) {
	docker := newLiveDocker(t)
	docker.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.at)
	const expr = "host web and tcp port 80 or host 10.80.9.9"
	p := pursue(t, d, expr)
	receive(t, docker.came)
	if got, err := p.n.filter(expr); err != nil || fmt.Sprint(got.Expr, " ", got.Names) != expr+" map[web:[10.80.1.2]]" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := p.n.filter("host wbe"); err == nil {
		t.Error("an unknown name is taken")
	}
	docker.join(wideID, webContainer, "web", newID, "10.80.1.7/16")
	docker.tell("network", "connect", wideID)
	what := receive(t, d.changes)
	if what.Targets != nil || what.Filter == nil || what.Filter.Expr != expr || fmt.Sprint(what.Filter.Names) != "map[web:[10.80.1.7]]" {
		t.Errorf("the daemon is told %+v", what)
	}
	// While it is stopped its filter stays.
	docker.leave(wideID, webContainer)
	docker.tell("network", "disconnect", wideID)
	until(t, "gone", func() bool { return len(p.n.now.Load().ends(func(string, namedEnd) bool { return true })) == 0 })
	docker.join(wideID, webContainer, "web", dbID, "10.80.1.8/16")
	docker.tell("network", "connect", wideID)
	if got := fmt.Sprint(receive(t, d.changes).Filter.Names); got != "map[web:[10.80.1.8]]" {
		t.Errorf("the daemon is told %s", got)
	}
}

// TestFollowBurst: many events at once are a few questions.
func TestFollowBurst(t *testing.T) {
	docker := newLiveDocker(t)
	d := newLiveDaemon(t, docker.at)
	p := pursue(t, d, "", "later")
	receive(t, docker.came)
	began := time.Now()
	for i := range 90 {
		time.Sleep(3 * time.Millisecond) // so that they are no single round
		docker.join(wideID, fmt.Sprint("c", i), fmt.Sprint("n", i), fmt.Sprint("e", i), fmt.Sprintf("10.80.2.%d/16", i))
		docker.tell("network", "connect", wideID)
	}
	until(t, "named", func() bool { return p.n.Addr(netip.MustParseAddr("10.80.2.89")) == "n89" })
	most := 4 + int(time.Since(began)/refreshGap) // a round each, those before, and those that have begun
	if got := docker.count("/networks/" + wideID); got > most {
		t.Errorf("asked %d times, want at most %d", got, most)
	}
}

func TestFollowWithoutDocker(t *testing.T) {
	d := newLiveDaemon(t, "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	p := pursue(t, d, "", webID)
	web := d.port("container", wideID, webID)
	d.frame(web, "a")
	p.await(webID + ": a@" + webID)
	if p.judges || p.asked.New {
		t.Errorf("new ports are asked for: %+v", p.asked)
	}
}
