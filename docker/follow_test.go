package docker

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

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// liveDaemon is the API over a fake.Fabric, and one capture whose ports and frames the test sends.
type liveDaemon struct {
	c       *client.Client
	changes chan api.CaptureChange
	write   chan func(*pcapng.Writer)
	ports   int
}

func newLiveDaemon(t *testing.T, docker string) *liveDaemon {
	d := &liveDaemon{changes: make(chan api.CaptureChange, 100), write: make(chan func(*pcapng.Writer), 1000)}
	a := &daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler())
	mux.HandleFunc("POST /v1/captures", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client closes the connection
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
		var what api.CaptureChange
		if err := json.NewDecoder(r.Body).Decode(&what); err != nil {
			t.Error(err)
		}
		d.changes <- what
		fake.WriteJSON(w, struct{}{})
	})
	d.c = &client.Client{Socket: fake.ServeUnix(t, "tapestry.sock", mux), DockerHost: docker}
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

// A followed is a capture with its Follower, and its blocks as describe writes them.
type followed struct {
	*Follower
	t    *testing.T
	read chan string
}

func follow(t *testing.T, d *liveDaemon, expr string, words ...string) *followed {
	t.Helper()
	n, err := LoadNames(t.Context(), d.c)
	if err != nil {
		t.Fatal(err)
	}
	tg, err := FindTargets(t.Context(), d.c, n, words, Awaited)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	s, err := d.c.OpenStream(ctx, api.CapturesPath, api.CaptureRequest{Targets: tg.Request(), Detail: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &followed{Follow(ctx, s, n, tg, expr), t, make(chan string, 1000)}
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

// await waits for the blocks in want, and fails at any other.
func (p *followed) await(want string) {
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

func TestFollowRestart(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.At)
	p := follow(t, d, "", "web")
	receive(t, docker.Came)
	web := d.port("container", fake.WideID, fake.WebID)
	d.frame(web, "a")
	p.await(fake.WebID + ": a@" + fake.WebID)

	// It stops, another one starts, then it starts again: Docker shows its endpoint last.
	docker.Leave(fake.WideID, fake.WebContainer)
	docker.Tell("network", "disconnect", fake.WideID)
	db := d.port("container", fake.WideID, fake.DbID)
	d.frame(db, "b")
	again := d.port("container", fake.WideID, fake.NewID)
	d.frame(again, "first")
	docker.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.2/16")
	docker.Tell("network", "connect", fake.WideID)
	testhost.Until(t, "judged", func() bool { return p.Discarded() == 1 })
	d.awaitTargets(t, api.Targets{Endpoints: []string{fake.NewID}, New: true, Some: true, Since: 3})
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.NewID, "10.80.1.3/16")
	docker.Tell("network", "connect", fake.WideID)
	p.await(fake.NewID + ": first@" + fake.NewID)
	d.frame(db, "c")
	d.frame(again, "second")
	p.await("second@" + fake.NewID)
	if p.Held() != 0 || p.Discarded() != 2 {
		t.Errorf("held %d, discarded %d", p.Held(), p.Discarded())
	}

	// Renamed and started again it is still followed.
	docker.Join(fake.WideID, fake.WebContainer, "front", fake.NewID, "10.80.1.3/16")
	docker.Tell("container", "rename", fake.WebContainer)
	testhost.Until(t, "renamed", func() bool { return p.n.Container(fake.NewID) == "front" })
	d.frame(again, "third")
	p.await("third@" + fake.NewID)
	third := d.port("container", fake.LocalID, "another")
	d.frame(third, "fourth")
	docker.Join(fake.LocalID, fake.WebContainer, "front", "another", "")
	docker.Tell("network", "connect", fake.LocalID)
	p.await("another: fourth@another")
	close(d.write)
	testhost.Until(t, "ended", func() bool { return p.ctx.Err() != nil })
}

func targetsText(t api.Targets) string {
	text, _ := json.Marshal(t)
	return string(text)
}

// TestFollowWait: a container that was not there is captured from its first frame, also if Docker tells no events.
func TestFollowWait(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	d := newLiveDaemon(t, docker.At)
	p := follow(t, d, "", "later")
	receive(t, docker.Came)
	later := d.port("container", fake.WideID, fake.NewID)
	d.frame(later, "first")
	docker.Join(fake.WideID, fake.WebContainer, "later", fake.NewID, "10.80.1.2/16")
	p.await(fake.NewID + ": first@" + fake.NewID)
	if got := receive(t, d.changes).Targets.Endpoints; !slices.Equal(got, []string{fake.NewID}) {
		t.Errorf("the daemon is told %q", got)
	}
	// The daemon is told that another container's new port is not wanted.
	docker.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	d.port("container", fake.WideID, fake.DbID)
	d.awaitTargets(t, api.Targets{Endpoints: []string{fake.NewID}, New: true, Some: true, Since: 2})
}

// A port that Docker names late is asked for by its own name meanwhile. When it turns out to be another container's, the daemon is told
// that it is not wanted.
func TestFollowUnwantedLater(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.At)
	follow(t, d, "", "web")
	receive(t, docker.Came)
	d.port("container", fake.WideID, fake.DbID)
	d.awaitTargets(t, api.Targets{Endpoints: []string{fake.DbID, fake.WebID}, New: true, Some: true, Since: 1})
	docker.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	docker.Tell("network", "connect", fake.WideID)
	d.awaitTargets(t, api.Targets{Endpoints: []string{fake.WebID}, New: true, Some: true, Since: 1})
}

// awaitTargets waits until the daemon is told these targets. What it is told before depends on when Docker is asked.
func (d *liveDaemon) awaitTargets(t *testing.T, want api.Targets) {
	t.Helper()
	limit := time.After(testhost.Patience)
	var told []string
	for {
		select {
		case what := <-d.changes:
			if what.Targets == nil {
				t.Fatalf("the daemon is told %+v", what)
			}
			if told = append(told, targetsText(*what.Targets)); told[len(told)-1] == targetsText(want) {
				return
			}
		case <-limit:
			t.Fatalf("the daemon is told %q, want %s", told, targetsText(want))
		}
	}
}

func TestFollowReconnects(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.At)
	p := follow(t, d, "", "network:wide")
	receive(t, docker.Came)
	docker.Mu.Lock()
	docker.Down = true
	docker.Mu.Unlock()
	docker.HangUp()
	testhost.Until(t, "asked while Docker is away", func() bool { return docker.Count("/networks/"+fake.WideID) > 2 })
	if got := p.n.Container(fake.WebID); got != "web" {
		t.Errorf("while Docker is away it is %q", got)
	}
	docker.Join(fake.WideID, fake.WebContainer, "renamed", fake.WebID, "10.80.1.2/16")
	docker.Mu.Lock()
	docker.Down = false
	docker.Mu.Unlock()
	receive(t, docker.Came)
	testhost.Until(t, "named", func() bool { return p.n.Container(fake.WebID) == "renamed" })
}

// TestFollowNames: new ports get their names even where every port is a target.
func TestFollowNames(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	d := newLiveDaemon(t, docker.At)
	p := follow(t, d, "", "network:wide")
	db := d.port("container", fake.WideID, fake.DbID)
	d.frame(db, "a")
	p.await(fake.DbID + ": a@" + fake.DbID)
	before := p.n.Version()
	docker.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	testhost.Until(t, "named", func() bool { return p.n.Container(fake.DbID) == "db" && p.n.Version() > before })
	if len(d.changes) != 0 {
		t.Errorf("the daemon is told %+v", <-d.changes)
	}
}

func TestFollowFilter(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d := newLiveDaemon(t, docker.At)
	const expr = "host web and tcp port 80 or host 10.80.9.9"
	p := follow(t, d, expr)
	receive(t, docker.Came)
	if got, err := p.n.filter(expr); err != nil || fmt.Sprint(got.Expr, " ", got.Names) != expr+" map[web:[10.80.1.2]]" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := p.n.filter("host wbe"); err == nil {
		t.Error("an unknown name is accepted")
	}
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.NewID, "10.80.1.7/16")
	docker.Tell("network", "connect", fake.WideID)
	what := receive(t, d.changes)
	if what.Targets != nil || what.Filter == nil || what.Filter.Expr != expr || fmt.Sprint(what.Filter.Names) != "map[web:[10.80.1.7]]" {
		t.Errorf("the daemon is told %+v", what)
	}
	// While it is stopped its filter stays.
	docker.Leave(fake.WideID, fake.WebContainer)
	docker.Tell("network", "disconnect", fake.WideID)
	testhost.Until(t, "gone", func() bool {
		return len(p.n.now.Load().endpointIDs(func(string, endpointInfo) bool { return true })) == 0
	})
	docker.Join(fake.WideID, fake.WebContainer, "web", fake.DbID, "10.80.1.8/16")
	docker.Tell("network", "connect", fake.WideID)
	if got := fmt.Sprint(receive(t, d.changes).Filter.Names); got != "map[web:[10.80.1.8]]" {
		t.Errorf("the daemon is told %s", got)
	}
}

// TestFollowBurst: many events at once cause only a few requests to Docker.
func TestFollowBurst(t *testing.T) {
	docker := fake.NewLiveDocker(t)
	d := newLiveDaemon(t, docker.At)
	p := follow(t, d, "", "later")
	receive(t, docker.Came)
	began := time.Now()
	for i := range 90 {
		time.Sleep(3 * time.Millisecond) // so that they are no single round
		docker.Join(fake.WideID, fmt.Sprint("c", i), fmt.Sprint("n", i), fmt.Sprint("e", i), fmt.Sprintf("10.80.2.%d/16", i))
		docker.Tell("network", "connect", fake.WideID)
	}
	testhost.Until(t, "named", func() bool { return p.n.Addr(netip.MustParseAddr("10.80.2.89")) == "n89" })
	most := 4 + int(time.Since(began)/refreshGap) // a round each, those before, and those that have begun
	if got := docker.Count("/networks/" + fake.WideID); got > most {
		t.Errorf("asked %d times, want at most %d", got, most)
	}
}

func TestFollowWithoutDocker(t *testing.T) {
	d := newLiveDaemon(t, "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	p := follow(t, d, "", fake.WebID)
	web := d.port("container", fake.WideID, fake.WebID)
	d.frame(web, "a")
	p.await(fake.WebID + ": a@" + fake.WebID)
	if p.judges || p.asked.New {
		t.Errorf("new ports are asked for: %+v", p.asked)
	}
}
