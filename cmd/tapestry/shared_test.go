package main

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/trace"
)

// For a container in another one's network namespace, every command takes the port of that other one, and says so.
func TestCommandsSharedNetwork(t *testing.T) {
	d := fake.NewSharedNetworkDocker(t)
	const note = "side shares the network of web: looking at web\n"
	h := fake.NewFabric()
	socket := fake.Daemon(t, h)
	run := func(args string) result {
		t.Helper()
		return tapestry(t, append(strings.Fields(args), "--api-socket", socket, "--docker-host", d.At)...)
	}
	if r := run("fault set side --loss 2%"); r.code != exit.OK || r.stderr != note || !strings.HasPrefix(r.out, "fault set on web of wide,") || len(h.Faults()) != 2 {
		t.Errorf("fault set: exit %d, %s%s, set %v", r.code, r.out, r.stderr, h.Faults())
	}
	if r := run("fault clear side"); r.code != exit.OK || r.stderr != note || r.out != "2 faults cleared\n" {
		t.Errorf("fault clear: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	if r := run("fault set late --loss 2%"); r.code != exit.NoTarget || !strings.Contains(r.stderr, "late shares the network of off, which does not run: start off, then late") {
		t.Errorf("fault set, the owner does not run: exit %d, %s", r.code, r.stderr)
	}
	asker, tr := &client.Client{Socket: socket, DockerHost: d.At}, &trace.Query{Packet: trace.Packet{Sport: 50000}}
	if _, request, err := tr.Prepare(t.Context(), asker, "", "side", "ff:ff:ff:ff:ff:ff"); err != nil || request.Port != fake.WebID || tr.Notes[0] != strings.TrimSuffix(note, "\n")+"." {
		t.Errorf("trace: %v, %+v, notes %q", err, request, tr.Notes)
	}
	tr = &trace.Query{Packet: trace.Packet{Sport: 50000}}
	if _, _, err := tr.Prepare(t.Context(), asker, "", "web", "late"); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), "which does not run") {
		t.Errorf("trace to one whose owner does not run: %v", err)
	}
	if r := run("fault clear container:nobody"); r.code != exit.NoTarget || !strings.Contains(r.stderr, `no port "container:nobody"`) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
