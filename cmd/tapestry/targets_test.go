package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture"
)

func targetText(t *targets) string {
	text, _ := json.Marshal(t.Request())
	return string(text)
}

func TestTargets(t *testing.T) {
	d := newLiveDocker(t)
	d.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d.join(wideID, dbContainer, "db", dbID, "10.80.1.3/16")
	d.join(localID, dbContainer, "db", newID, "10.81.0.3/16")
	d.join(localID, "ep-eeee", "starting", "eeee", "10.81.0.4/16")
	d.containers["lonely"] = `{"Id":"ff","Name":"/lonely","State":{"Running":true},"NetworkSettings":{"Networks":{"bridge":{"NetworkID":"b"},"alan":{"NetworkID":"c"}}}}`
	d.containers["none"] = `{"Id":"ff","Name":"/none","State":{"Running":true}}`
	d.containers["old"] = `{"Id":"ab12","Name":"/old","NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + wideID + `"}}}}`
	d.containers["ab12"] = d.containers["old"]
	d.containers["crashed"] = `{"Id":"ab13","Name":"/crashed","Created":"2026-03-01T08:00:00.5Z","NetworkSettings":{"SandboxKey":"/var/run/docker/netns/beef","Networks":{"wide":{"NetworkID":"` + wideID + `"}}}}`
	d.containers["stranger"] = strings.NewReplacer("crashed", "stranger", wideID, "b").Replace(d.containers["crashed"])
	d.containers["loops"] = strings.NewReplacer("crashed", "loops", `"Id"`, `"State":{"Running":true,"Restarting":true},"Id"`).Replace(d.containers["crashed"])
	d.containers["slow"] = strings.NewReplacer("crashed", "slow", `"Id"`, `"State":{"Running":true},"Id"`).Replace(d.containers["crashed"])
	d.containers["fresh"] = `{"Id":"ab14","Name":"/fresh","NetworkSettings":{"Networks":{"mynet":{"NetworkID":""}}}}`
	d.containers[webContainer] = `{"Id":"` + webContainer + `","Name":"/web","Created":"2026-03-01T08:00:00Z"}`
	d.containers[dbContainer] = `{"Id":"` + dbContainer + `","Name":"/db","State":{"Running":true},"NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + wideID + `"}}}}`
	// Who is in another's network namespace, as docker run --network container:NAME makes it.
	for name, of := range map[string]string{"side": webContainer, "byname": "web", "second": "side", "dbside": dbContainer, "late": "crashed",
		"far": "lonely", "orphan": strings.Repeat("ab", 32), "ring": "ring2", "ring2": "ring"} {
		d.containers[name] = `{"Id":"ab15` + name + `","Name":"/` + name + `","State":{"Running":true},"HostConfig":{"NetworkMode":"container:` + of + `"},"NetworkSettings":{"Networks":{}}}`
	}
	d.containers["web"], d.containers["ab15"] = d.containers[webContainer], d.containers["side"]
	live := d.at
	away := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		docker, words, want string
		code                int
	}{
		{live, "", `{}`, exitFine},
		{live, "all web", `{}`, exitFine},
		{live, "web", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "/web", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "db web", `{"endpoints":["` + dbID + `","` + newID + `","` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "starting", `{"endpoints":["eeee"],"new":true,"some":true}`, exitFine},
		{live, "d2d2", `{"endpoints":["` + dbID + `","` + newID + `"],"new":true,"some":true}`, exitFine},
		{live, webID, `{"endpoints":["` + webID + `"],"some":true}`, exitFine},
		{live, "9b1d4", `{"endpoints":["` + webID + `"],"some":true}`, exitFine},
		{away, "9b1d4", `{"endpoints":["` + webID + `"],"some":true}`, exitFine},
		{live, "network:mynet", `{"networks":["` + localID + `"],"some":true}`, exitFine},
		{live, "network:80 peer:192.0.2.2", `{"networks":["` + wideID + `"],"peers":["192.0.2.2"],"some":true}`, exitFine},
		{live, "peer:192.0.2.2:4789 peer:[2001:db8::2]:1 web", `{"endpoints":["` + webID + `"],"peers":["192.0.2.2","2001:db8::2"],"new":true,"some":true}`, exitFine},
		{live, "peer:2001:DB8:0::2", `{"peers":["2001:db8::2"],"some":true}`, exitFine},
		{live, "--wait later", `{"new":true,"some":true}`, exitFine},
		{live, "--wait old web", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "--wait ab12", `{"new":true,"some":true}`, exitFine},
		{live, "--past crashed", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exitFine},
		{live, "--past crashed web", `{"endpoints":["` + webID + `"],"sandboxes":["beef"],"born":{"` + webID + `":1772352000000000000,"beef":1772352000500000000},"new":true,"some":true}`, exitFine},

		{live, "side", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "ab15", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "byname", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "second", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "dbside web", `{"endpoints":["` + dbID + `","` + newID + `","` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "--wait side", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "--wait late", `{"new":true,"some":true}`, exitFine},
		{live, "--past side", `{"endpoints":["` + webID + `"],"born":{"` + webID + `":1772352000000000000},"new":true,"some":true}`, exitFine},
		{live, "--past late", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exitFine},
		{live, "late", "late shares the network of crashed: container crashed does not run: start it", exitNoTarget},
		{live, "far", "far shares the network of lonely: container lonely is on no network of this daemon, it has: alan, bridge", exitNoTarget},
		{live, "orphan", "container orphan shares the network of container abababababab, which is removed: make orphan again", exitNoTarget},
		{live, "ring", "container ring shares the network of another, and that one of the next, more than 8 in a row", exitNoTarget},

		{live, "crashed", "container crashed does not run", exitNoTarget},
		{live, "--past old", "container old has never run", exitNoTarget},
		{live, "--past loops", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`, exitFine},
		{live, "loops", "container loops ended and waits to be started again: await its first frame with --wait; what it did: tapestry recorder dump loops", exitNoTarget},
		{live, "--past slow", "container slow is on wide, but Docker does not tell yet as what: try again", exitNo},
		{live, "--past fresh", "container fresh has never run", exitNoTarget},
		{live, "fresh", "container fresh does not run", exitNoTarget},
		{live, "--wait fresh", `{"new":true,"some":true}`, exitFine},
		{live, "--past stranger", "container stranger is on no network of this daemon, it has: wide", exitNoTarget},
		{live, "--past production", "there are: db, starting, web; one that was removed has lost its name: network:NAME, or", exitNoTarget},
		{live, "wbe", "did you mean web?", exitNoTarget},
		{live, "mynt", "did you mean network:mynet?", exitNoTarget},
		{live, "network:mynt", "no network \"mynt\", did you mean mynet?", exitNoTarget},
		{live, "network:", "want network:NAME", exitUsage},
		{live, "network", "no container \"network\", did you mean network:NAME?", exitNoTarget},
		{live, "peer", "no container \"peer\", did you mean peer:HOST?", exitNoTarget},
		{live, "host", "no container \"host\", did you mean host:NAME?", exitNoTarget},
		{live, "container", "no container \"container\", did you mean container:NAME?", exitNoTarget},
		{live, "container:", "want container:NAME", exitUsage},
		{live, "container:web", `{"endpoints":["` + webID + `"],"new":true,"some":true}`, exitFine},
		{live, "container:wbe", "did you mean web?", exitNoTarget},
		{live, "--wait network", `{"new":true,"some":true}`, exitFine},
		{live, "netwrk:mynet", "did you mean network:mynet?", exitNoTarget},
		{live, "192.0.2.2", "did you mean peer:192.0.2.2?", exitNoTarget},
		{live, "10.80.1.3", "did you mean db? It has that address.", exitNoTarget},
		{live, "peer:192.0.2.3", "did you mean peer:192.0.2.2?", exitNoTarget},
		{live, "peer:far.example.com", "there are: 192.0.2.2, 2001:db8::2", exitNoTarget},
		{live, "peer:", "want peer:HOST", exitUsage},
		{live, "production", "no container \"production\", there are: db, starting, web", exitNoTarget},
		{live, "lonely", "container lonely is on no network of this daemon, it has: alan, bridge", exitNoTarget},
		{live, "none", "it has: no network", exitNoTarget},
		{live, "old", "container old does not run: start it, or await its first frame with --wait", exitNoTarget},
		{live, "9b1e444", "did you mean 9b1d44444444?", exitNoTarget},
		{live, "--wait net:wide", "no container \"net:wide\"", exitNoTarget},
		{away, "web", "Docker does not answer at " + away, exitNoTarget},
		{away, "--wait web", "Docker does not answer at " + away, exitNoTarget},
	} {
		t.Run(c.words, func(t *testing.T) {
			client, n := newNames(t, c.docker)
			words := strings.Fields(c.words)
			of := present
			switch strings.Join(words[:min(1, len(words))], "") {
			case "--wait":
				of, words = future, words[1:]
			case "--past":
				of, words = past, words[1:]
			}
			found, err := client.targets(t.Context(), n, words, of)
			if exitCode(err) != c.code {
				t.Fatalf("exit %d, want %d: %v", exitCode(err), c.code, err)
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
	if _, err := client.targets(t.Context(), n, []string{""}, future); exitCode(err) != exitUsage {
		t.Errorf("an empty target: %v", err)
	}
	d.join(wideID, "c1c1999", "twin", "9b1d9", "")
	client, n = newNames(t, live)
	for word, want := range map[string]string{
		"9b1d": `"9b1d" can be 9b1d` + webID[4:] + " (endpoint of web) or 9b1d9 (endpoint of twin): name one by more of its id",
		"c1c1": `"c1c1" can be ` + webContainer + " (container web) or c1c1999 (container twin): name one by more of its id",
	} {
		if _, err := client.targets(t.Context(), n, []string{word}, present); exitCode(err) != exitUsage || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSharedNetwork: a container in another's network namespace is looked at as that one's port, in every command that
// takes a container, and they say so.
func TestSharedNetwork(t *testing.T) {
	d := newLiveDocker(t)
	d.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d.containers["side"] = `{"Id":"ab15","Name":"/side","State":{"Running":true},"HostConfig":{"NetworkMode":"container:` + webContainer + `"}}`
	d.containers["late"] = `{"Id":"ab16","Name":"/late","HostConfig":{"NetworkMode":"container:off"}}`
	d.containers[webContainer] = `{"Id":"` + webContainer + `","Name":"/web","State":{"Running":true},"HostConfig":{"NetworkMode":"wide"}}`
	d.containers["off"] = `{"Id":"ab17","Name":"/off","HostConfig":{"NetworkMode":"wide"}}`
	const note = "side shares the network of web: looking at web\n"
	c, n := newNames(t, d.at)
	found, err := c.targets(t.Context(), n, []string{"side"}, present)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	if found.tell(&said); said.String() != note {
		t.Errorf("told %q", said.String())
	}
	// Another container that gets the owner's name later is another.
	d.leave(wideID, webContainer)
	d.join(wideID, dbContainer, "web", newID, "10.80.1.6/16")
	if err := n.refresh(t.Context(), []string{wideID}); err != nil {
		t.Fatal(err)
	}
	if got := found.judge(&capture.Port{Network: wideID, Name: newID}); got != unwanted {
		t.Errorf("a new web is %d", got)
	}
	d.leave(wideID, dbContainer)
	d.join(wideID, webContainer, "web", webID, "10.80.1.2/16")

	h := newFakeHost()
	socket := fakeDaemon(t, h)
	run := func(args string) result {
		t.Helper()
		return tapestry(t, append(strings.Fields(args), "--api-socket", socket, "--docker-host", d.at)...)
	}
	if r := run("fault set side --loss 2%"); r.code != exitFine || r.stderr != note || !strings.HasPrefix(r.out, "fault set on web of wide,") || len(h.Faults()) != 2 {
		t.Errorf("fault set: exit %d, %s%s, set %v", r.code, r.out, r.stderr, h.Faults())
	}
	if r := run("fault clear side"); r.code != exitFine || r.stderr != note || r.out != "2 faults cleared\n" {
		t.Errorf("fault clear: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	if r := run("fault set late --loss 2%"); r.code != exitNoTarget || !strings.Contains(r.stderr, "late shares the network of off, which does not run: start off, then late") {
		t.Errorf("fault set, the owner does not run: exit %d, %s", r.code, r.stderr)
	}
	tr := &tracing{client: &client{socket: socket, dockerHost: d.at}, sport: 50000}
	if _, request, err := tr.prepare(t.Context(), "side", "ff:ff:ff:ff:ff:ff"); err != nil || request.Port != webID || tr.notes[0] != strings.TrimSuffix(note, "\n")+"." {
		t.Errorf("trace: %v, %+v, notes %q", err, request, tr.notes)
	}
	tr = &tracing{client: &client{socket: socket, dockerHost: d.at}, sport: 50000}
	if _, _, err := tr.prepare(t.Context(), "web", "late"); exitCode(err) != exitNoTarget || !strings.Contains(err.Error(), "which does not run") {
		t.Errorf("trace to one whose owner does not run: %v", err)
	}
}

// A container may be called as a kind of target, or all. Whatever takes a container takes it.
func TestTargetsOddNames(t *testing.T) {
	d := newLiveDocker(t)
	all := []string{"network", "peer", "host", "container", "port", "all", "10.80.9.9"}
	for i, name := range all {
		d.join(wideID, "c"+name, name, fmt.Sprintf("%064x", 0xe000+i), fmt.Sprintf("10.80.1.%d/16", 10+i))
	}
	socket := fakeDaemon(t, newFakeHost())
	for i, name := range all {
		id := fmt.Sprintf("%064x", 0xe000+i)
		for _, word := range []string{name, "container:" + name} {
			client, n := newNames(t, d.at)
			found, err := client.targets(t.Context(), n, []string{word}, present)
			want := `{"endpoints":["` + id + `"],"new":true,"some":true}`
			if word == "all" {
				want = `{}`
			}
			if err != nil || targetText(found) != want {
				t.Errorf("%s: %v", word, err)
			}
			ports, err := resolvePorts("port", word, []portReply{{Kind: "container", Name: webID, Container: "web"}, {Kind: "container", Name: id, Container: name}},
				client.mustDocker(t))
			if err != nil || len(ports) != 1 || ports[0].Name != id {
				t.Errorf("as a port, %s: %v, %v", word, ports, err)
			}
		}
	}
	if r := tapestry(t, "fault", "clear", "container:nobody", "--api-socket", socket, "--docker-host", d.at); r.code != exitNoTarget || !strings.Contains(r.stderr, `no port "container:nobody"`) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

func (c *client) mustDocker(t *testing.T) *docker {
	t.Helper()
	d, err := c.askDocker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTargetsJudge(t *testing.T) {
	d := newLiveDocker(t)
	d.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	d.join(wideID, "ep-x", "web", "joins", "10.80.1.4/16")
	d.join(wideID, "ep-y", "else", "nameless", "10.80.1.5/16")
	d.join(wideID, dbContainer, "db", dbID, "10.80.1.3/16")
	client, n := newNames(t, d.at)
	some, err := client.targets(t.Context(), n, []string{"web", "network:mynet", "peer:192.0.2.2"}, present)
	if err != nil {
		t.Fatal(err)
	}
	all, err := client.targets(t.Context(), n, nil, present)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(network, name string, remote bool, want judgement) {
		t.Helper()
		p := &capture.Port{Network: network, Name: name, Remote: remote}
		if got := some.judge(p); got != want {
			t.Errorf("%s on %s is %d, want %d", name, short(network), got, want)
		}
		if got := all.judge(p); got != wanted {
			t.Errorf("%s of all is %d", name, got)
		}
	}
	judge(wideID, webID, false, wanted)
	judge(wideID, "joins", false, wanted)     // its name is enough
	judge(wideID, "nameless", false, unknown) // it may be a renamed web that is started again
	judge(wideID, dbID, false, unwanted)
	judge(wideID, newID, false, unknown)
	judge(localID, newID, false, wanted)
	judge(wideID, "192.0.2.2:4789", true, wanted)
	judge(wideID, "192.0.2.2", true, wanted)
	judge(wideID, "192.0.2.3:4789", true, unwanted)

	// Renamed, it is still one; a container of its old name is another.
	d.join(wideID, webContainer, "web-old", webID, "10.80.1.2/16")
	d.join(wideID, "c2", "web", newID, "10.80.1.6/16")
	if err := n.refresh(t.Context(), []string{wideID}); err != nil {
		t.Fatal(err)
	}
	judge(wideID, webID, false, wanted)
	judge(wideID, newID, false, wanted)
	d.join(wideID, webContainer, "web-old", "restarted", "10.80.1.2/16")
	if err := n.refresh(t.Context(), []string{wideID}); err != nil {
		t.Fatal(err)
	}
	judge(wideID, "restarted", false, wanted)
}

func TestCompleteTarget(t *testing.T) {
	d := newLiveDocker(t)
	d.join(wideID, webContainer, "web", webID, "10.80.1.2/16")
	c, _ := newNames(t, d.at)
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	got, how := c.completeTarget(cmd, []string{"network:mynet"}, "")
	want := []string{"all\tevery port", "network:80cc33333333\tnetwork", "network:wide\tnetwork",
		"peer:192.0.2.2\tanother host", "peer:2001:db8::2\tanother host", "web\tcontainer"}
	if !slices.Equal(got, want) || how != cobra.ShellCompDirectiveNoFileComp {
		t.Errorf("%q\nwant %q", got, want)
	}
	c.socket = filepath.Join(t.TempDir(), "none.sock")
	if got, _ := c.completeTarget(cmd, nil, ""); got != nil {
		t.Errorf("without a daemon: %q", got)
	}
}
