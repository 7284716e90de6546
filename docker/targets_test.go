package docker

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

func targetText(t *Targets) string {
	text, _ := json.Marshal(t.Request())
	return string(text)
}

func TestTargets(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	d.Join(fake.LocalID, fake.DbContainer, "db", fake.NewID, "10.81.0.3/16")
	d.Join(fake.LocalID, "ep-eeee", "starting", "eeee", "10.81.0.4/16")
	d.Containers["elsewhere"] = `{"Id":"ff","Name":"/elsewhere","State":{"Running":true},"NetworkSettings":{"Networks":{"bridge":{"NetworkID":"b"},"alan":{"NetworkID":"c"}}}}`
	d.Containers["none"] = `{"Id":"ff","Name":"/none","State":{"Running":true}}`
	d.Containers["old"] = `{"Id":"ab12","Name":"/old","NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + fake.WideID + `"}}}}`
	d.Containers["ab12"] = d.Containers["old"]
	d.Containers["crashed"] = `{"Id":"ab13","Name":"/crashed","Created":"2026-03-01T08:00:00.5Z","NetworkSettings":{"SandboxKey":"/var/run/docker/netns/beef","Networks":{"wide":{"NetworkID":"` + fake.WideID + `"}}}}`
	d.Containers["stoppedelsewhere"] = strings.NewReplacer("crashed", "stoppedelsewhere", fake.WideID, "b").Replace(d.Containers["crashed"])
	d.Containers["loops"] = strings.NewReplacer("crashed", "loops", `"Id"`, `"State":{"Running":true,"Restarting":true},"Id"`).Replace(d.Containers["crashed"])
	d.Containers["slow"] = strings.NewReplacer("crashed", "slow", `"Id"`, `"State":{"Running":true},"Id"`).Replace(d.Containers["crashed"])
	d.Containers["fresh"] = `{"Id":"ab14","Name":"/fresh","NetworkSettings":{"Networks":{"mynet":{"NetworkID":""}}}}`
	d.Containers[fake.WebContainer] = `{"Id":"` + fake.WebContainer + `","Name":"/web","Created":"2026-03-01T08:00:00Z"}`
	d.Containers[fake.DbContainer] = `{"Id":"` + fake.DbContainer + `","Name":"/db","State":{"Running":true},"NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + fake.WideID + `"}}}}`
	// Containers in another one's network namespace, as docker run --network container:NAME makes them.
	for name, of := range map[string]string{"side": fake.WebContainer, "byname": "web", "second": "side", "dbside": fake.DbContainer, "late": "crashed",
		"far": "elsewhere", "orphan": strings.Repeat("ab", 32), "ring": "ring2", "ring2": "ring"} {
		d.Containers[name] = `{"Id":"ab15` + name + `","Name":"/` + name + `","State":{"Running":true},"HostConfig":{"NetworkMode":"container:` + of + `"},"NetworkSettings":{"Networks":{}}}`
	}
	d.Containers["web"], d.Containers["ab15"] = d.Containers[fake.WebContainer], d.Containers["side"]
	live := d.At
	away := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		Engine, words, want string
		code                int
	}{
		{live, "", `{}`, exit.OK},
		{live, "all web", `{}`, exit.OK},
		{live, "web", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "/web", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "db web", `{"endpoints":["` + fake.DbID + `","` + fake.NewID + `","` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "starting", `{"endpoints":["eeee"],"new":true,"some":true}`, exit.OK},
		{live, "d2d2", `{"endpoints":["` + fake.DbID + `","` + fake.NewID + `"],"new":true,"some":true}`, exit.OK},
		{live, fake.WebID, `{"endpoints":["` + fake.WebID + `"],"some":true}`, exit.OK},
		{live, "9b1d4", `{"endpoints":["` + fake.WebID + `"],"some":true}`, exit.OK},
		{away, "9b1d4", `{"endpoints":["` + fake.WebID + `"],"some":true}`, exit.OK},
		{live, "network:mynet", `{"networks":["` + fake.LocalID + `"],"some":true}`, exit.OK},
		{live, "network:80 peer:192.0.2.2", `{"networks":["` + fake.WideID + `"],"peers":["192.0.2.2"],"some":true}`, exit.OK},
		{live, "peer:192.0.2.2:4789 peer:[2001:db8::2]:1 web", `{"endpoints":["` + fake.WebID + `"],"peers":["192.0.2.2","2001:db8::2"],"new":true,"some":true}`, exit.OK},
		{live, "peer:2001:DB8:0::2", `{"peers":["2001:db8::2"],"some":true}`, exit.OK},
		{live, "--wait later", `{"new":true,"some":true}`, exit.OK},
		{live, "--wait old web", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "--wait ab12", `{"new":true,"some":true}`, exit.OK},
		{live, "--past crashed", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exit.OK},
		{live, "--past crashed web", `{"endpoints":["` + fake.WebID + `"],"sandboxes":["beef"],"born":{"` + fake.WebID + `":1772352000000000000,"beef":1772352000500000000},"new":true,"some":true}`, exit.OK},

		{live, "side", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "ab15", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "byname", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "second", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "dbside web", `{"endpoints":["` + fake.DbID + `","` + fake.NewID + `","` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "--wait side", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "--wait late", `{"new":true,"some":true}`, exit.OK},
		{live, "--past side", `{"endpoints":["` + fake.WebID + `"],"born":{"` + fake.WebID + `":1772352000000000000},"new":true,"some":true}`, exit.OK},
		{live, "--past late", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exit.OK},
		{live, "late", "late shares the network of crashed: container crashed does not run: start it", exit.NoTarget},
		{live, "far", "far shares the network of elsewhere: container elsewhere is on no network of this daemon, it has: alan, bridge", exit.NoTarget},
		{live, "orphan", "container orphan shares the network of container abababababab, which is removed: make orphan again", exit.NoTarget},
		{live, "ring", "container ring shares the network of another, and that one of the next, more than 8 in a row", exit.NoTarget},

		{live, "crashed", "container crashed does not run", exit.NoTarget},
		{live, "--past old", "container old has never run", exit.NoTarget},
		{live, "--past loops", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exit.OK},
		{live, "loops", "container loops ended and waits to be started again: await its first frame with --wait; what it did: tapestry recorder dump loops", exit.NoTarget},
		{live, "--past slow", "container slow is on wide, but Docker does not tell yet as what: try again", exit.Failure},
		{live, "--past fresh", "container fresh has never run", exit.NoTarget},
		{live, "fresh", "container fresh does not run", exit.NoTarget},
		{live, "--wait fresh", `{"new":true,"some":true}`, exit.OK},
		{live, "--past stoppedelsewhere", "container stoppedelsewhere is on no network of this daemon, it has: wide", exit.NoTarget},
		{live, "--past production", "there are: db, starting, web; one that was removed has lost its name: network:NAME, or", exit.NoTarget},
		{live, "wbe", "did you mean web?", exit.NoTarget},
		{live, "mynt", "did you mean network:mynet?", exit.NoTarget},
		{live, "network:mynt", "no network \"mynt\", did you mean mynet?", exit.NoTarget},
		{live, "network:", "want network:NAME", exit.Usage},
		{live, "network", "no container \"network\", did you mean network:NAME?", exit.NoTarget},
		{live, "peer", "no container \"peer\", did you mean peer:HOST?", exit.NoTarget},
		{live, "host", "no container \"host\", did you mean host:NAME?", exit.NoTarget},
		{live, "container", "no container \"container\", did you mean container:NAME?", exit.NoTarget},
		{live, "container:", "want container:NAME", exit.Usage},
		{live, "container:web", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{live, "container:wbe", "did you mean web?", exit.NoTarget},
		{live, "--wait network", `{"new":true,"some":true}`, exit.OK},
		{live, "netwrk:mynet", "did you mean network:mynet?", exit.NoTarget},
		{live, "192.0.2.2", "did you mean peer:192.0.2.2?", exit.NoTarget},
		{live, "10.80.1.3", "did you mean db? It has that address.", exit.NoTarget},
		{live, "peer:192.0.2.3", "did you mean peer:192.0.2.2?", exit.NoTarget},
		{live, "peer:far.example.com", "there are: 192.0.2.2, 2001:db8::2", exit.NoTarget},
		{live, "peer:", "want peer:HOST", exit.Usage},
		{live, "production", "no container \"production\", there are: db, starting, web", exit.NoTarget},
		{live, "elsewhere", "container elsewhere is on no network of this daemon, it has: alan, bridge", exit.NoTarget},
		{live, "none", "it has: no network", exit.NoTarget},
		{live, "old", "container old does not run: start it, or await its first frame with --wait", exit.NoTarget},
		{live, "9b1e444", "did you mean 9b1d44444444?", exit.NoTarget},
		{live, "--wait net:wide", "no container \"net:wide\"", exit.NoTarget},
		{away, "web", "Docker does not answer at " + away, exit.NoTarget},
		{away, "--wait web", "Docker does not answer at " + away, exit.NoTarget},
	} {
		t.Run(c.words, func(t *testing.T) {
			client, n := newNames(t, c.Engine)
			words := strings.Fields(c.words)
			of := OnlyRunning
			switch strings.Join(words[:min(1, len(words))], "") {
			case "--wait":
				of, words = Awaited, words[1:]
			case "--past":
				of, words = Stopped, words[1:]
			}
			found, err := FindTargets(t.Context(), client, n, words, of)
			if exit.Code(err) != c.code {
				t.Fatalf("exit %d, want %d: %v", exit.Code(err), c.code, err)
			}
			if err == nil && targetText(found) != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
				if err == nil {
					t.Error(targetText(found))
				}
			}
		})
	}
	client, n := newNames(t, live)
	if _, err := FindTargets(t.Context(), client, n, []string{""}, Awaited); exit.Code(err) != exit.Usage {
		t.Errorf("an empty target: %v", err)
	}
	d.Join(fake.WideID, "c1c1999", "twin", "9b1d9", "")
	client, n = newNames(t, live)
	for word, want := range map[string]string{
		"9b1d": `"9b1d" can be 9b1d` + fake.WebID[4:] + " (endpoint of web) or 9b1d9 (endpoint of twin): name one by more of its id",
		"c1c1": `"c1c1" can be ` + fake.WebContainer + " (container web) or c1c1999 (container twin): name one by more of its id",
	} {
		if _, err := FindTargets(t.Context(), client, n, []string{word}, OnlyRunning); exit.Code(err) != exit.Usage || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSharedNetwork: for a container in another one's network namespace, every command that takes a container looks at the other
// one's port, and says so.
func TestSharedNetwork(t *testing.T) {
	d := fake.NewSharedNetworkDocker(t)
	const note = "side shares the network of web: looking at web\n"
	c, n := newNames(t, d.At)
	found, err := FindTargets(t.Context(), c, n, []string{"side"}, OnlyRunning)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	if found.PrintNotes(&said); said.String() != note {
		t.Errorf("told %q", said.String())
	}
	// A container that gets the owner's name later is not a target.
	d.Leave(fake.WideID, fake.WebContainer)
	d.Join(fake.WideID, fake.DbContainer, "web", fake.NewID, "10.80.1.6/16")
	if err := n.refresh(t.Context(), []string{fake.WideID}); err != nil {
		t.Fatal(err)
	}
	if got := found.judge(&capture.Port{Network: fake.WideID, Name: fake.NewID}); got != unwanted {
		t.Errorf("a new web is %d", got)
	}
	d.Leave(fake.WideID, fake.DbContainer)
	d.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
}

// A container may have the name of a kind of target, or "all". Every command that takes a container takes it.
func TestTargetsOddNames(t *testing.T) {
	d := fake.NewLiveDocker(t)
	all := []string{"network", "peer", "host", "container", "port", "all", "10.80.9.9"}
	for i, name := range all {
		d.Join(fake.WideID, "c"+name, name, fmt.Sprintf("%064x", 0xe000+i), fmt.Sprintf("10.80.1.%d/16", 10+i))
	}
	for i, name := range all {
		id := fmt.Sprintf("%064x", 0xe000+i)
		for _, word := range []string{name, "container:" + name} {
			client, n := newNames(t, d.At)
			found, err := FindTargets(t.Context(), client, n, []string{word}, OnlyRunning)
			want := `{"endpoints":["` + id + `"],"new":true,"some":true}`
			if word == "all" {
				want = `{}`
			}
			if err != nil || targetText(found) != want {
				t.Errorf("%s: %v", word, err)
			}
			ports, err := ResolvePorts(mustDocker(client, t), "port", word,
				[]api.Port{{Kind: "container", Name: fake.WebID, Container: "web"}, {Kind: "container", Name: id, Container: name}})
			if err != nil || len(ports) != 1 || ports[0].Name != id {
				t.Errorf("as a port, %s: %v, %v", word, ports, err)
			}
		}
	}
}

func mustDocker(c *client.Client, t *testing.T) *Engine {
	t.Helper()
	d, err := Load(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTargetsJudge(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	d.Join(fake.WideID, "ep-x", "web", "joins", "10.80.1.4/16")
	d.Join(fake.WideID, "ep-y", "else", "nameless", "10.80.1.5/16")
	d.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.80.1.3/16")
	client, n := newNames(t, d.At)
	some, err := FindTargets(t.Context(), client, n, []string{"web", "network:mynet", "peer:192.0.2.2"}, OnlyRunning)
	if err != nil {
		t.Fatal(err)
	}
	all, err := FindTargets(t.Context(), client, n, nil, OnlyRunning)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(network, name string, remote bool, want judgement) {
		t.Helper()
		p := &capture.Port{Network: network, Name: name, Remote: remote}
		if got := some.judge(p); got != want {
			t.Errorf("%s on %s is %d, want %d", name, api.ShortID(network), got, want)
		}
		if got := all.judge(p); got != wanted {
			t.Errorf("%s of all is %d", name, got)
		}
	}
	judge(fake.WideID, fake.WebID, false, wanted)
	judge(fake.WideID, "joins", false, wanted)     // its name is enough
	judge(fake.WideID, "nameless", false, unknown) // it may be a renamed web that is started again
	judge(fake.WideID, fake.DbID, false, unwanted)
	judge(fake.WideID, fake.NewID, false, unknown)
	judge(fake.LocalID, fake.NewID, false, wanted)
	judge(fake.WideID, "192.0.2.2:4789", true, wanted)
	judge(fake.WideID, "192.0.2.2", true, wanted)
	judge(fake.WideID, "192.0.2.3:4789", true, unwanted)

	// A target that is renamed stays one; so is a container that gets its old name.
	d.Join(fake.WideID, fake.WebContainer, "web-old", fake.WebID, "10.80.1.2/16")
	d.Join(fake.WideID, "c2", "web", fake.NewID, "10.80.1.6/16")
	if err := n.refresh(t.Context(), []string{fake.WideID}); err != nil {
		t.Fatal(err)
	}
	judge(fake.WideID, fake.WebID, false, wanted)
	judge(fake.WideID, fake.NewID, false, wanted)
	d.Join(fake.WideID, fake.WebContainer, "web-old", "restarted", "10.80.1.2/16")
	if err := n.refresh(t.Context(), []string{fake.WideID}); err != nil {
		t.Fatal(err)
	}
	judge(fake.WideID, "restarted", false, wanted)
}
