package daemon_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/cluster/member"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// The names of this host go out, those of others come in, and what is no name changes nothing.
func TestNames(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	m, err := member.New(member.Config{Cluster: "a", Engine: conformance.NewHub().Engine(), Dir: t.TempDir(), Name: "n1", VTEP: conformance.Self(1).VTEP, Log: log})
	testhost.Must(t, err)
	m.Fabric(nil).Publish([]cluster.Member{{Spec: cluster.Spec{Key: "blue"}}}, nil, nil)
	ending := make(chan struct{})
	h := (&daemon.API{Fabric: fake.NewFabric(), Log: log, Cluster: m, Ending: ending}).Handler()
	ask := func(h http.Handler, method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		text, _ := io.ReadAll(w.Body)
		return w.Code, string(text)
	}
	if code, text := ask(h, "PUT", api.NamesPath, `{"names":[{"key":"blue","name":"web","addrs":["10.77.0.2","fd00::2"]}]}`); code != http.StatusOK {
		t.Fatal(code, text)
	}
	for _, c := range []struct{ body, want string }{
		{`{"names":[{"key":"Blue","name":"web","addrs":["10.77.0.2"]}]}`, `network \"Blue\": want 1 to 63 small letters`},
		{`{"names":[{"key":"blue","name":"web","addrs":[]}]}`, "is no name"},
		{`{"names":[{"key":"blue","name":"","addrs":["10.77.0.2"]}]}`, "is no name"},
		{`{"names":[{"key":"blue","name":"web","addrs":["224.0.0.1"]}]}`, "is no address of a container"},
		{`{"names":[{"key":"blue","name":"web","addrs":[""]}]}`, "is no address of a container"},
		{`{"names":[{"key":"blue","name":"web","addrs":["x"]}]}`, "read the request"},
		{`{"names":"x"}`, "read the request"},
		{`{"names":[` + strings.Repeat(`{},`, api.MaxNames) + `{}]}`, "want 20000 at most"},
		{`{"names":[` + strings.Repeat(" ", api.MaxNamesBody) + `]}`, "too large"},
	} {
		if code, text := ask(h, "PUT", api.NamesPath, c.body); code != http.StatusBadRequest || !strings.Contains(text, c.want) {
			t.Errorf("%.60s: %d %s", c.body, code, text)
		}
	}
	if own := m.Own().Names; len(own) != 1 || own[0].Name != "web" || len(own[0].Addrs) != 2 {
		t.Errorf("it says %v", own)
	}
	remote := cluster.Record{Host: conformance.Self(2), Seq: 1, Members: []cluster.Member{{Spec: cluster.Spec{Key: "blue"}}},
		Names: []cluster.Name{{Key: "blue", Name: "db", Addrs: []netip.Addr{netip.MustParseAddr("10.77.0.9")}}}}
	m.Directory.Apply(cluster.Update{Full: true, Entries: []cluster.Entry{{Record: remote}}})
	var got api.Names
	_, text := ask(h, "GET", api.NamesPath, "")
	testhost.Must(t, json.Unmarshal([]byte(text), &got))
	if !slices.Equal(got.Keys, []string{"blue"}) || !slices.Equal(got.Changed, got.Keys) || len(got.Names) != 1 || got.Names[0].Name != "db" || got.Names[0].Host != remote.Name ||
		got.Names[0].VTEP != "192.0.2.2" || got.Names[0].MAC != "02:42:0a:4d:00:09" || got.Names[0].Gone {
		t.Errorf("got %s", text)
	}
	for query, want := range map[string]string{
		"key=blue&addr=10.77.0.9": `{"host":"n2","vtep":"192.0.2.2","mac":"02:00:00:00:00:09","gone":false}`,
		"key=blue&addr=10.77.1.3": `{"host":"n2","vtep":"192.0.2.2","mac":"02:42:0a:4d:01:03","gone":false}`,
		"key=blue&addr=fd00::9":   `{"host":"n2","vtep":"192.0.2.2","mac":"02:00:00:00:00:09","gone":false}`,
		"key=blue&addr=10.77.2.3": "no other host has said that it has 10.77.2.3 on network blue",
		"key=red&addr=10.77.0.9":  "no other host has said",
		"key=blue&addr=x":         "addr: ",
	} {
		told := remote
		told.Seq++
		told.Members = []cluster.Member{{Spec: cluster.Spec{Key: "blue"}, Blocks: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("fd00::/64")}}}
		told.Stations = []cluster.Station{{Key: "blue", MAC: ether.MAC{2, 0, 0, 0, 0, 9}, Addrs: []netip.Addr{netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("fd00::9")}, Seq: 1}}
		m.Directory.Apply(cluster.Update{Full: true, Entries: []cluster.Entry{{Record: told}}})
		if _, text := ask(h, "GET", api.ClusterPlacePath+"?"+query, ""); !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", query, text, want)
		}
	}
	m.Directory.Apply(cluster.Update{Full: true, Entries: []cluster.Entry{{Record: remote, State: cluster.Gone}}})
	if _, text := ask(h, "GET", api.NamesPath, ""); strings.Contains(text, "db") {
		t.Errorf("of a host that is gone: %s", text)
	}
	if _, text := ask(h, "GET", api.NamesPath+"?gone=yes", ""); !strings.Contains(text, `"name":"db"`) || !strings.Contains(text, `"gone":true`) {
		t.Errorf("of a host that is gone, asked for: %s", text)
	}
	close(ending) // a question that waits is answered when the daemon ends
	_, text = ask(h, "GET", api.NamesPath+"?after="+got.Version, "")
	if !strings.Contains(text, `"changed":[]`) {
		t.Errorf("got %s", text)
	}
	none := (&daemon.API{Fabric: fake.NewFabric(), Log: log}).Handler()
	for _, method := range []string{"GET", "PUT"} {
		if code, text := ask(none, method, api.NamesPath, "{}"); code != http.StatusConflict || !strings.Contains(text, "in no cluster") {
			t.Errorf("without a cluster: %d %s", code, text)
		}
	}
}
