package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fault"
	"github.com/tapestry-net/tapestry/test/fake"
)

func TestFault(t *testing.T) {
	h := fake.NewFabric()
	socket, dockerHost := fake.Daemon(t, h), fake.Docker(t)
	all := fault.Spec{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02, Burst: 5, Duplicate: 0.01, Reorder: 0.01,
		Corrupt: 0.001, Rate: 10e6, Seed: 7, For: time.Minute}
	view := func(name string, d fabric.Direction, s fault.Spec) string {
		return fmt.Sprint(name, d, fmt.Sprintf("%#v", s))
	}
	const text = "delay 50ms ± 10ms, loss 2% in bursts of 5, duplicate 1%, reorder 1%, corrupt 0.1%, rate 10mbit"
	half := fault.Spec{Delay: 1500 * time.Millisecond, Rate: 1.5e9}
	for _, c := range []struct {
		args, out string
		want      []string // what is set afterwards
	}{
		{"set web --loss 2% --delay 50ms --jitter 10ms --burst 5 --duplicate 1% --reorder 1% --corrupt 0.1% --rate 10mbit --seed 7 --for 1m",
			"fault set on web of wide, both directions: " + text + ", for 1m0s\n",
			[]string{view(fake.WebID, fabric.From, all), view(fake.WebID, fabric.To, all)}},
		{"set web --dir to --delay 1.5s --rate 1.5Gbit", "fault set on web of wide, direction to: delay 1.5s, rate 1.5gbit\n",
			[]string{view(fake.WebID, fabric.From, all), view(fake.WebID, fabric.To, half)}},
		{"set peer:192.0.2.2:4789 --dir from --loss 100%", "fault set on 192.0.2.2:4789 of wide, direction from: loss 100%\n",
			[]string{view(fake.WebID, fabric.From, all), view(fake.WebID, fabric.To, half), view(fake.Remote, fabric.From, fault.Spec{Loss: 1})}},
		{"clear web --dir from", "1 fault cleared\n", []string{view(fake.WebID, fabric.To, half), view(fake.Remote, fabric.From, fault.Spec{Loss: 1})}},
		{"clear 9b1d", "1 fault cleared\n", []string{view(fake.Remote, fabric.From, fault.Spec{Loss: 1})}},
		{"clear web", "0 faults cleared\n", []string{view(fake.Remote, fabric.From, fault.Spec{Loss: 1})}},
		{"clear all --dir to", "0 faults cleared\n", []string{view(fake.Remote, fabric.From, fault.Spec{Loss: 1})}},
		{"clear all", "1 fault cleared\n", nil},
	} {
		r := tapestry(t, append(strings.Fields("fault "+c.args), "--api-socket", socket, "--docker-host", dockerHost)...)
		if r.code != exit.OK || r.out != c.out {
			t.Errorf("fault %s: exit %d, %q, want %q; %s", c.args, r.code, r.out, c.out, r.stderr)
		}
		var got []string
		for _, v := range h.Faults() {
			got = append(got, view(v.Name, v.Direction, v.Spec))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("fault %s: set are\n%v\nwant\n%v", c.args, got, c.want)
		}
	}
}

func faultyHost() *fake.Fabric {
	h := fake.NewFabric()
	h.Set = []fabric.FaultView{
		{Network: fake.WideID, VNI: 80, Kind: "container", Name: fake.WebID, Direction: fabric.To, Spec: fault.Spec{Loss: 0.02, Seed: 7, For: time.Minute},
			Left: 41200 * time.Millisecond, Stats: fault.Stats{Frames: 1000, Passed: 980, Lost: 20}},
		{Network: fake.WideID, VNI: 80, Kind: "container", Name: fake.WebID, Direction: fabric.From, Spec: fault.Spec{Delay: 50 * time.Millisecond, Rate: 5e5, Seed: 123},
			Stats: fault.Stats{Frames: 100, Passed: 80, OverRate: 10, Delayed: 90, Waiting: 10, WaitingBytes: 3000}, Refused: 1},
	}
	return h
}

func TestFaultList(t *testing.T) {
	socket, dockerHost := fake.Daemon(t, faultyHost()), fake.Docker(t)
	r := tapestry(t, "fault", "list", "--api-socket", socket, "--docker-host", dockerHost)
	want := `
NETWORK  PORT  DIRECTION  FAULT                     SEED  ENDS    FRAMES  DONE
wide     web   from       delay 50ms, rate 500kbit  123   -       100     delayed 90, over rate 10, waiting 10, refused 1
wide     web   to         loss 2%                   7     in 42s  1000    lost 20`
	if r.code != exit.OK || trimmed(r.out) != trimmed(want) {
		t.Errorf("exit %d, got\n%s\nwant\n%s", r.code, r.out, want)
	}
	r = tapestry(t, "fault", "list", "--json", "--api-socket", socket, "--docker-host", dockerHost)
	var v []map[string]any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatal(err)
	}
	if f := v[0]; f["container"] != "web" || f["direction"] != "from" || f["delay_seconds"] != 0.05 || f["rate_bits"] != 5e5 || f["left_seconds"] != nil ||
		f["waiting_bytes"] != 3000. || f["refused"] != 1. {
		t.Errorf("got %v", f)
	}
	if f := v[1]; f["loss"] != 0.02 || f["left_seconds"] != 41.2 || f["for_seconds"] != 60. {
		t.Errorf("got %v", f)
	}
	docs := fake.DocumentedKeys(t)
	var rows []any
	for _, f := range v {
		rows = append(rows, f)
	}
	if got, want := fake.JSONKeys(rows, ""), slices.Sorted(slices.Values(docs["fault list"])); !slices.Equal(got, want) {
		t.Errorf("fault list --json has\n%v\ndocs/json.md says\n%v", got, want)
	}
	if r := tapestry(t, "fault", "list", "--json", "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", dockerHost); r.out != "[]\n" {
		t.Errorf("no faults are %q", r.out)
	}
}

// Nobody forgets a fault.
func TestFaultInStatus(t *testing.T) {
	for h, want := range map[*fake.Fabric]bool{fake.NewFabric(): false, faultyHost(): true} {
		r := tapestry(t, "status", "--api-socket", fake.Daemon(t, h), "--docker-host", fake.Docker(t))
		if got := strings.Contains(r.out, "faults     2 set on purpose, see tapestry fault list\n"); got != want {
			t.Errorf("status mentions faults: %v, want %v\n%s", got, want, r.out)
		}
	}
}

func TestFaultExitCodes(t *testing.T) {
	h := fake.NewFabric()
	socket, dockerHost := fake.Daemon(t, h), fake.Docker(t)
	for _, c := range []struct {
		args string
		code int
		want string // in the one line on stderr
	}{
		{"ste web", exit.Usage, `did you mean set?`},
		{"set", exit.Usage, `too few arguments, want: tapestry fault set PORT`},
		{"set web", exit.Usage, `no fault: want a delay, loss`},
		{"set web --loss 0%", exit.Usage, `no fault: want a delay, loss`},
		{"set web --loss 0.02", exit.Usage, `--loss "0.02": want a percentage with its sign: 0.02%, or 2% if one in 50 is meant`},
		{"set web --loss 2", exit.Usage, `want a percentage with its sign: 2%`},
		{"set web --loss 101%", exit.Usage, `want 0% to 100%, such as 2%`},
		{"set web --loss NaN%", exit.Usage, `want 0% to 100%, such as 2%`},
		{"set web --delay 50", exit.Usage, `--delay "50": want a duration, such as 50ms`},
		{"set web --delay 1h", exit.Usage, `delay 1h0m0s: want up to 10s`},
		{"set web --jitter 5ms", exit.Usage, `jitter 5ms: want no more than the delay, which is 0s`},
		{"set web --burst 5", exit.Usage, `burst 5: want a loss too`},
		{"set web --burst 0 --loss 1%", exit.Usage, `want a mean number of frames of 1 or more`},
		{"set web --rate 10", exit.Usage, `--rate "10": want a number with kbit, mbit or gbit, such as 10mbit`},
		{"set web --rate 10MB", exit.Usage, `such as 10mbit`},
		{"set web --rate 1000gbit", exit.Usage, `want 1kbit to 100gbit`},
		{"set web --loss 1% --seed 0", exit.Usage, `want a number from 1`},
		{"set web --loss 1% --for 60", exit.Usage, `want a duration greater than zero`},
		{"set web --loss 1% --dir in", exit.Usage, `--dir "in": want from, to, both`},
		{"set web --los 1%", exit.Usage, `did you mean --loss or`},
		{"set wbe --loss 1%", exit.NoTarget, `no port "wbe", did you mean web?`},
		{"set 9b1e --loss 1%", exit.NoTarget, `did you mean 9b1d?`},
		{"set peer:192.0.2.3:4789 --loss 1%", exit.NoTarget, `did you mean peer:192.0.2.2:4789?`},
		{"set 192.0.2.2:4789 --loss 1%", exit.NoTarget, `did you mean peer:192.0.2.2:4789?`},
		{"clear somewhere-else", exit.NoTarget, `there are: peer:192.0.2.2:4789, web`},
		{"list web", exit.Usage, `"web" is one argument too many`},
	} {
		t.Setenv("DOCKER_HOST", dockerHost)
		r := tapestry(t, append(strings.Fields("fault "+c.args), "--api-socket", socket)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 || r.out != "" {
			t.Errorf("fault %s: exit %d, want %d; stderr %q, want %q in one line; stdout %q", c.args, r.code, c.code, r.stderr, c.want, r.out)
		}
	}
	if set := h.Faults(); len(set) != 0 {
		t.Errorf("refused commands have set %v", set)
	}
	r := tapestry(t, "fault", "clear", "web", "--api-socket", socket, "--docker-host", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	if r.code != exit.NoTarget || !strings.Contains(r.stderr, "ports are known by endpoint id only") {
		t.Errorf("without Docker: exit %d, %s", r.code, r.stderr)
	}
	r = tapestry(t, "fault", "set", "web", "--loss", "1%", "--api-socket", filepath.Join(t.TempDir(), "dead.sock"), "--docker-host", dockerHost)
	if r.code != exit.NoDaemon {
		t.Errorf("without a daemon: exit %d, %s", r.code, r.stderr)
	}
	r = tapestry(t, "__complete", "fault", "set", "--api-socket", socket, "--docker-host", dockerHost, "")
	if r.out != "peer:192.0.2.2:4789\nweb\n:4\n" {
		t.Errorf("offered are %q", r.out)
	}
}

// The beginning of an id that two ports have, and a container that is on two networks.
func TestResolvePorts(t *testing.T) {
	all := []api.Port{{Kind: "container", Name: "aab1", Container: "web"}, {Kind: "container", Name: "aac2", Container: "web"},
		{Kind: "container", Name: "aad3"}, {Kind: "remote", Name: "aa::1"}}
	d := &docker.Engine{Answered: true}
	if ports, err := docker.ResolvePorts(d, "port", "web", all); err != nil || len(ports) != 2 {
		t.Errorf("web is %v, %v", ports, err)
	}
	_, err := docker.ResolvePorts(d, "port", "aa", all)
	if exit.Code(err) != exit.Usage || err.Error() != `"aa" can be aab1 (web) or aac2 (web) or aad3: name one by more of its id` {
		t.Errorf("aa: %v", err)
	}
	for arg, want := range map[string]string{"aad": "aad3", "peer:aa::1": "aa::1"} {
		if ports, err := docker.ResolvePorts(d, "port", arg, all); err != nil || len(ports) != 1 || ports[0].Name != want {
			t.Errorf("%s is %v, %v", arg, ports, err)
		}
	}
	if _, err := docker.ResolvePorts(d, "port", "", all); exit.Code(err) != exit.NoTarget {
		t.Errorf("an empty name: %v", err)
	}
	if _, err := docker.ResolvePorts(d, "port", "web", nil); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), "none yet") {
		t.Errorf("without ports: %v", err)
	}
}

func TestFaultAPI(t *testing.T) {
	h := fake.NewFabric()
	a := (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel"}).Handler()
	for _, c := range []struct {
		method, path, body string
		status             int
		Answer             string
	}{
		{"PUT", "/v1/faults/" + fake.WebID + "/from", `{"loss": 0.5}`, http.StatusOK, "{}"},
		{"PUT", "/v1/faults/" + fake.WebID + "/from", ``, http.StatusBadRequest, "read the request"},
		{"PUT", "/v1/faults/" + fake.WebID + "/from", `{"los": 0.5}`, http.StatusBadRequest, `unknown field`},
		{"PUT", "/v1/faults/" + fake.WebID + "/from", `{"loss": 2}`, http.StatusBadRequest, "want 0% to 100%"},
		{"PUT", "/v1/faults/" + fake.WebID + "/from", `{"delay_seconds": 1e300}`, http.StatusBadRequest, "want up to 10s"},
		{"PUT", "/v1/faults/" + fake.WebID + "/from", `{"delay_seconds": 1, "for_seconds": -1e300}`, http.StatusBadRequest, "want up to 720h"},
		{"PUT", "/v1/faults/" + fake.WebID + "/in", `{"loss": 0.5}`, http.StatusBadRequest, "want from, to, both"},
		{"PUT", "/v1/faults/" + fake.LocalID + "/to", `{"loss": 0.5}`, http.StatusNotFound, "no such endpoint"},
		{"DELETE", "/v1/faults/" + fake.LocalID + "/to", ``, http.StatusNotFound, "no such endpoint"},
		{"DELETE", "/v1/faults/" + fake.WebID + "/out", ``, http.StatusBadRequest, "want from, to, both"},
		{"DELETE", "/v1/faults/" + fake.WebID + "/to", ``, http.StatusOK, `"cleared":0`},
		{"DELETE", "/v1/faults/all/both", ``, http.StatusOK, `"cleared":1`},
	} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.Answer) {
			t.Errorf("%s %s %s: HTTP %d, want %d: %s", c.method, c.path, c.body, w.Code, c.status, w.Body)
		}
	}
}
