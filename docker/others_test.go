package docker

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// elsewhere is a container's name on host a (192.0.2.2) or b (192.0.2.3), with an alias.
func elsewhere(key, name, host string, addrs ...string) (both []api.Name) {
	n := api.Name{Key: key, Name: name, Host: host, VTEP: map[string]string{"a": "192.0.2.2", "b": "192.0.2.3"}[host]}
	for _, text := range addrs {
		a := netip.MustParseAddr(text)
		n.Addrs = append(n.Addrs, a)
		if a.Is4() && n.MAC == "" {
			n.MAC = fmt.Sprintf("02:42:%x", a.AsSlice())
			n.MAC = n.MAC[:8] + ":" + n.MAC[8:10] + ":" + n.MAC[10:12] + ":" + n.MAC[12:]
		}
	}
	alias := n
	alias.Name = "alias-of-" + name
	return []api.Name{n, alias}
}

// newOthers is a daemon that shares wide as blue, and a Docker with the container web there, and old, which does not run.
func newOthers(t *testing.T, names ...[]api.Name) (*client.Client, *fake.NamesDaemon, *fake.LiveDocker) {
	t.Helper()
	h := fake.NewFabric()
	h.Keys = map[string]string{fake.WideID: "blue", fake.LocalID: "green"}
	d := fake.NewClusterDaemon(t, h)
	d.Set(slices.Concat(names...)...)
	e := fake.NewLiveDocker(t)
	e.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	e.Containers["old"] = `{"Id":"ab12","Name":"/old","NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + fake.WideID + `"}}}}`
	e.Containers["cafe"] = `{"Id":"cafe12","Name":"/bar","NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + fake.WideID + `"}}}}` // by the beginning of its id
	return &client.Client{Socket: d.Socket, DockerHost: e.At}, d, e
}

// Containers on other hosts have their names in frames' lines, in files and in filters: with their host where a name would say two.
func TestOthers(t *testing.T) {
	c, d, e := newOthers(t, elsewhere("blue", "db", "a", "10.80.2.3", "fd00::3"), elsewhere("blue", "web", "a", "10.80.2.2"),
		elsewhere("blue", "twin", "a", "10.80.2.4"), elsewhere("blue", "twin", "b", "10.80.3.4"), elsewhere("red", "far", "a", "10.90.0.1"),
		elsewhere("blue", "thief", "b", "10.80.1.2"))
	n, err := LoadNames(t.Context(), c)
	testhost.Must(t, err)
	for a, want := range map[string]string{"10.80.2.3": "db", "fd00::3": "db", "10.80.2.2": "web@a", "10.80.2.4": "twin@a", "10.80.3.4": "twin@b", "10.80.1.2": "web", "10.90.0.1": ""} {
		if got := n.Addr(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is %q, want %q", a, got, want)
		}
	}
	if got := dump(n); !strings.Contains(got, "10.80.2.3=db 10.80.2.4=twin@a 10.80.3.4=twin@b fd00::3=db") {
		t.Errorf("a file has %s", got)
	}
	for name, want := range map[string]string{"db": "[10.80.2.3 fd00::3]", "db.blue": "[10.80.2.3 fd00::3]", "db@a": "[10.80.2.3 fd00::3]", "db.blue@a": "[10.80.2.3 fd00::3]",
		"web": "[10.80.1.2]", "web@a": "[10.80.2.2]", "twin": "[10.80.2.4 10.80.3.4]", "twin@b": "[10.80.3.4]", "db@b": "[]", "db.green": "[]", "alias-of-db": "[]"} {
		if got := fmt.Sprint(n.Addrs(name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	_, f, err := CompileFilter("tcp and host twin@b", n.Addrs)
	if err != nil || !slices.Equal(f.Names["twin@b"], []string{"10.80.3.4"}) {
		t.Errorf("%v, %v", f, err)
	}
	// What changes is asked for, and a container that has gone here and come there has its name at once.
	d.Set(elsewhere("blue", "web", "b", "10.80.1.2")...)
	_, err = n.loadOthers(t.Context(), n.version)
	testhost.Must(t, err)
	if got := n.Addr(netip.MustParseAddr("10.80.1.2")); got != "web" || n.Addr(netip.MustParseAddr("10.80.2.3")) != "" {
		t.Errorf("10.80.1.2 is %q", got)
	}
	e.Leave(fake.WideID, fake.WebContainer)
	testhost.Must(t, n.refreshAll(t.Context()))
	if got := n.Addr(netip.MustParseAddr("10.80.1.2")); got != "web" || len(n.Addrs("web@b")) != 1 || len(n.Addrs("web")) != 1 {
		t.Errorf("10.80.1.2 is %q", got)
	}
}

// A host without a network that hosts share asks for no names.
func TestNoOthers(t *testing.T) {
	c, _, _ := newOthers(t, elsewhere("blue", "db", "a", "10.80.2.3"))
	d := fake.NewClusterDaemon(t, fake.NewFabric())
	d.Set(elsewhere("blue", "db", "a", "10.80.2.3")...)
	c.Socket = d.Socket
	n, err := LoadNames(t.Context(), c)
	if err != nil || n.version != "" || len(n.Addrs("db")) != 0 {
		t.Errorf("names of version %q, %v", n.version, err)
	}
	if e, err := FindElsewhere(t.Context(), c, &Engine{}); err != nil || len(e.Others) != 0 {
		t.Errorf("%v, %v", e, err)
	}
}

func TestOtherTargets(t *testing.T) {
	c, _, _ := newOthers(t, elsewhere("blue", "db", "a", "10.80.2.3", "fd00::3"), elsewhere("green", "db", "a", "10.81.2.3"), elsewhere("blue", "web", "a", "10.80.2.2"),
		elsewhere("blue", "twin", "a", "10.80.2.4"), elsewhere("blue", "twin", "b", "10.80.3.4"), elsewhere("blue", "old", "b", "10.80.3.5"),
		elsewhere("blue", "cafe", "b", "10.80.3.6"), elsewhere("red", "far", "a", "10.90.0.1"))
	blue := `{"network":"` + fake.WideID + `","peer":"192.0.2.2","expr":"host 10.80.2.3 or host fd00::3 or ether host 02:42:0a:50:02:03"}`
	green := `{"network":"` + fake.LocalID + `","peer":"192.0.2.2","expr":"host 10.81.2.3 or ether host 02:42:0a:51:02:03"}`
	web := `{"network":"` + fake.WideID + `","peer":"192.0.2.2","expr":"host 10.80.2.2 or ether host 02:42:0a:50:02:02"}`
	cafe := `{"network":"` + fake.WideID + `","peer":"192.0.2.3","expr":"host 10.80.3.6 or ether host 02:42:0a:50:03:06"}`
	for _, test := range []struct {
		words, want string
		code        int
	}{
		{"db", `{"behind":[` + blue + `,` + green + `],"some":true}`, exit.OK},
		{"--wait db", `{"behind":[` + blue + `,` + green + `],"some":true}`, exit.OK},
		{"db@a", `{"behind":[` + blue + `,` + green + `],"some":true}`, exit.OK},
		{"db.blue", `{"behind":[` + blue + `],"some":true}`, exit.OK},
		{"db.green@a", `{"behind":[` + green + `],"some":true}`, exit.OK},
		{"container:db.blue@a", `{"behind":[` + blue + `],"some":true}`, exit.OK},
		{"web", `{"endpoints":["` + fake.WebID + `"],"new":true,"some":true}`, exit.OK},
		{"web web@a", `{"endpoints":["` + fake.WebID + `"],"new":true,"behind":[` + web + `],"some":true}`, exit.OK},
		{"cafe", `{"behind":[` + cafe + `],"some":true}`, exit.OK},
		{"twin", "twin is the name of a container on several hosts, name one: twin@a or twin@b", exit.Usage},
		{"old", "container old does not run: start it, or await its first frame with --wait; the one on another host is old@b", exit.NoTarget},
		{"db@b", `did you mean db?`, exit.NoTarget},
		{"twni@b", `did you mean twin@b or twin@a?`, exit.NoTarget},
		{"far", "no container \"far\"", exit.NoTarget},
		{"10.80.3.4", "did you mean twin@b? It has that address.", exit.NoTarget},
	} {
		t.Run(test.words, func(t *testing.T) {
			n, err := LoadNames(t.Context(), c)
			testhost.Must(t, err)
			words, of := strings.Fields(test.words), OnlyRunning
			if words[0] == "--wait" {
				words, of = words[1:], Awaited
			}
			found, err := FindTargets(t.Context(), c, n, words, of)
			if exit.Code(err) != test.code || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("exit %d: %v, want %s", exit.Code(err), err, test.want)
			}
			if err == nil && targetText(found) != test.want {
				t.Errorf("%s\nwant %s", targetText(found), test.want)
			}
		})
	}
	c.DockerHost = "unix:///nonexistent.sock"
	n, err := LoadNames(t.Context(), c)
	testhost.Must(t, err)
	if found, err := FindTargets(t.Context(), c, n, []string{"db.blue"}, OnlyRunning); err != nil || targetText(found) != `{"behind":[`+blue+`],"some":true}` {
		t.Errorf("without Docker: %v", err)
	}
	about, err := TargetWords(t.Context(), c)
	if err != nil || about["db"] != "container on a" || about["twin@b"] != "container on b" || about["far"] != "" {
		t.Errorf("words are %v, %v", about, err)
	}
}

// A running capture follows a container that moves to another host, and gets another address.
func TestFollowOthers(t *testing.T) {
	c, d, _ := newOthers(t, elsewhere("blue", "db", "a", "10.80.2.3"))
	n, err := LoadNames(t.Context(), c)
	testhost.Must(t, err)
	found, err := FindTargets(t.Context(), c, n, []string{"db"}, OnlyRunning)
	testhost.Must(t, err)
	s := newFakeStream()
	f := Follow(t.Context(), s, n, found, "host db")
	d.Set(elsewhere("blue", "db", "b", "10.80.3.9")...)
	change := <-s.changes
	for change.Targets == nil || change.Filter == nil { // they may come one after the other
		more := <-s.changes
		change.Targets, change.Filter = cmp.Or(more.Targets, change.Targets), cmp.Or(more.Filter, change.Filter)
	}
	if len(change.Targets.Behind) != 1 || change.Targets.Behind[0].Peer != "192.0.2.3" || !strings.HasPrefix(change.Targets.Behind[0].Expr, "host 10.80.3.9 ") ||
		change.Filter.Names["db"][0] != "10.80.3.9" {
		t.Errorf("%+v", change)
	}
	close(s.blocks)
	for _, err = f.Next(); err == nil; _, err = f.Next() {
	}
}

// Beside a container here only the frames of the one there are taken from its host's port, also while Docker is asked for names.
func TestHoldOthers(t *testing.T) {
	of, not := frameTo("02420a500203"), frameTo("02420a500204")
	synctest.Test(t, func(t *testing.T) {
		b := newHoldTest(t)
		b.n.update(func(d *snapshot) {
			d.keys = map[string]string{"blue": fake.WideID}
			d.told = []Other{{Key: "blue", Name: "db", Host: "a", VTEP: "192.0.2.2", MAC: "02:42:0a:50:02:03", Addrs: []netip.Addr{netip.MustParseAddr("10.80.2.3")}}}
		})
		b.t.others["db"] = true
		other, peer := b.s.port("container", fake.WideID, "other"), b.s.port("remote", fake.WideID, "192.0.2.2")
		b.named(fake.WideID, "other", "other")
		b.s.frame(other, peer, not)
		b.s.verdict(other, -1, vswitch.Flooded, not)
		b.want(t, "192.0.2.2:")
		b.counts(t, 0, 2)
		b.s.frame(other, peer, of)
		b.want(t, "other: "+of+"@other>192.0.2.2")
		b.s.verdict(other, -1, vswitch.Flooded, of)
		b.want(t, of+"@other")
		b.s.frame(peer, other, not)
		b.want(t, "")
		close(b.s.blocks)
		b.want(t, "EOF")
	})
}

// frameTo is a frame to a MAC address.
func frameTo(mac string) string {
	b, _ := hex.DecodeString(mac + "020000000009" + "0806" + strings.Repeat("00", 46))
	return string(b)
}

// A port is of this host; a trace goes to other hosts.
func TestOtherPorts(t *testing.T) {
	c, _, _ := newOthers(t, elsewhere("blue", "db", "a", "10.80.2.3"), elsewhere("blue", "web", "a", "10.80.2.2"))
	if _, _, err := FindPorts(t.Context(), c, "db", nil); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), "db is on host a, and has no port here: its frames go through peer:192.0.2.2") {
		t.Error(err)
	}
	if words, err := PortWords(t.Context(), c, true); err != nil || !slices.Contains(words, "db") || !slices.Contains(words, "web@a") {
		t.Errorf("%v, %v", words, err)
	}
	if words, err := PortWords(t.Context(), c, false); err != nil || slices.Contains(words, "db") {
		t.Errorf("%v, %v", words, err)
	}
}
