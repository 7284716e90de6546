package docker

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

func TestResolve(t *testing.T) {
	all := []api.Network{{ID: fake.WideID, VNI: 80}, {ID: fake.LocalID}, {ID: fake.OtherID, VNI: 90}, {ID: "5555" + fake.WideID[4:], VNI: 7}}
	named := &Engine{Answered: true, Networks: []Network{
		{ID: fake.WideID, Name: "wide", Driver: "tapestry"},
		{ID: fake.LocalID, Name: "90", Driver: "tapestry"}, // a name comes before a VNI
		{ID: fake.OtherID, Name: fake.WideID, Driver: "tapestry"},
		{ID: "eeee" + fake.WideID[4:], Name: "7", Driver: "bridge"}, // not ours, so the VNI is meant
		{ID: "ffff" + fake.WideID[4:], Name: "lan", Driver: "macvlan"},
	}}
	twins := &Engine{Answered: true, Networks: []Network{{ID: fake.WideID, Name: "twin"}, {ID: fake.LocalID, Name: "twin"}}}
	for _, c := range []struct {
		name, arg string
		Engine    *Engine
		want      string // id, or part of the error
		code      int
	}{
		{"by name", "wide", named, fake.WideID, exit.OK},
		{"name before id", fake.WideID, named, fake.OtherID, exit.OK},
		{"name before VNI", "90", named, fake.LocalID, exit.OK},
		{"VNI before id prefix", "80", named, fake.WideID, exit.OK},
		{"VNI before another driver's name", "7", named, "5555" + fake.WideID[4:], exit.OK},
		{"id prefix", "80c", named, fake.OtherID, exit.OK},
		{"whole id", fake.WideID, &Engine{}, fake.WideID, exit.OK},
		{"VNI without Docker", "90", &Engine{}, fake.OtherID, exit.OK},
		{"ambiguous prefix", "aaa", named, fake.WideID + " (wide) or " + fake.LocalID + " (90)", exit.Usage},
		{"ambiguous name", "twin", twins, fake.WideID + " (twin) or " + fake.LocalID + " (twin)", exit.Usage},
		{"another driver's", "lan", named, "network lan exists but its driver is macvlan", exit.NoTarget},
		{"another driver's by short id", "ffff11111111", named, "network lan exists but its driver is macvlan", exit.NoTarget},
		{"slip in a name", "wied", named, "did you mean wide?", exit.NoTarget},
		{"slip in a VNI", "89", named, "did you mean 80?", exit.NoTarget},
		{"nothing near", "production", named, "there are: 55551111111", exit.NoTarget},
		{"Docker away", "wide", &Engine{Address: "unix:///d.sock"}, "Docker does not answer at unix:///d.sock", exit.NoTarget},
		{"out of a VNI's range", "16777217", named, "no network", exit.NoTarget},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := resolve(c.Engine, c.arg, all)
			if exit.Code(err) != c.code {
				t.Fatalf("exit %d, want %d: %v", exit.Code(err), c.code, err)
			}
			if err == nil && n.ID != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v, want %s", n.ID, err, c.want)
			}
		})
	}
	if _, err := resolve(named, "x", nil); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), "this daemon has none yet") {
		t.Errorf("with no network at all: %v", err)
	}
}

func TestDockerAddress(t *testing.T) {
	for at, want := range map[string]string{
		"unix:///var/run/docker.sock": "unix /var/run/docker.sock",
		"tcp://127.0.0.1:2375":        "tcp 127.0.0.1:2375",
		"tcp://[::1]:2375/":           "tcp [::1]:2375",
		"tcp://host":                  "",
		"ssh://me@host":               "",
		"unix://":                     "",
		"/var/run/docker.sock":        "",
	} {
		network, address, err := parseHost(at)
		if (err != nil) != (want == "") || err == nil && network+" "+address != want {
			t.Errorf("%s: %s %s %v, want %q", at, network, address, err, want)
		}
	}
}
