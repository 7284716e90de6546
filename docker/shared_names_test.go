package docker

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func sharedDocker(t *testing.T) (*fake.LiveDocker, *SharedNames) {
	d := fake.NewLiveDocker(t)
	d.Networks[fake.WideID] = fake.DockerNetwork{ID: fake.WideID, Name: "wide", Driver: "tapestry", Containers: map[string]fake.DockerEndpoint{},
		Options: map[string]string{"tapestry.network": "blue"}}
	e, err := New(&client.Client{DockerHost: d.At})
	testhost.Must(t, err)
	return d, NewSharedNames(e)
}

func read(t *testing.T, s *SharedNames) (all string, whole bool) {
	t.Helper()
	names, whole, err := s.Read(t.Context())
	testhost.Must(t, err)
	var words []string
	for _, n := range names {
		words = append(words, fmt.Sprintf("%s.%s=%v", n.Name, n.Key, n.Addrs))
	}
	return strings.Join(words, " "), whole
}

// Names are those that Docker's DNS has: the container's, its aliases, its short id; only on networks with a key.
func TestSharedNames(t *testing.T) {
	d, s := sharedDocker(t)
	if got, whole := read(t, s); got != "" || !whole {
		t.Errorf("without containers: %q", got)
	}
	id := fake.WebContainer
	d.Join(fake.WideID, id, "web", fake.WebID, "10.77.0.3/24")
	d.Join(fake.WideID, fake.DbContainer, "db", fake.DbID, "10.77.0.2/24")
	d.Join(fake.LocalID, id, "web", fake.NewID, "10.79.0.3/24")
	d.Networks[fake.WideID].Containers["ep-1"] = fake.DockerEndpoint{Name: "joining", EndpointID: "1", IPv4Address: "10.77.0.9/24"}
	d.Networks[fake.WideID].Containers["bare"] = fake.DockerEndpoint{Name: "bare", EndpointID: "2"}
	d.Containers[id] = `{"Id":"` + id + `","Name":"/web","NetworkSettings":{"Networks":{"mynet":{"NetworkID":"` + fake.LocalID + `","Aliases":["other"]},
		"wide":{"NetworkID":"` + fake.WideID + `","Aliases":["www","c1c100000000"]}}}}`
	if got, whole := read(t, s); got != "db.blue=[10.77.0.2] d2d200000000.blue=[10.77.0.2] web.blue=[10.77.0.3] www.blue=[10.77.0.3] c1c100000000.blue=[10.77.0.3]" || whole {
		t.Errorf("%v %s", whole, got)
	}
	d.Containers[fake.DbContainer] = `{"NetworkSettings":{"Networks":{"wide":{"NetworkID":"` + fake.WideID + `","Aliases":["DB"],"DNSNames":["db","d2d200000000","pg"]}}}}`
	got, whole := read(t, s)
	if !strings.HasPrefix(got, "db.blue=[10.77.0.2] d2d200000000.blue=[10.77.0.2] pg.blue=[10.77.0.2] web.blue") || !whole {
		t.Errorf("%v %s", whole, got)
	}
	// Docker is asked once for each endpoint, and again when it is another one or is called otherwise.
	read(t, s)
	if n := d.Count("/containers/" + id + "/json"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	d.Join(fake.WideID, id, "web2", fake.WebID, "10.77.0.3/24")
	if got, _ := read(t, s); !strings.Contains(got, "web2.blue") || strings.Contains(got, "web.blue") || d.Count("/containers/"+id+"/json") != 2 {
		t.Errorf("renamed: %s", got)
	}
	d.Leave(fake.WideID, id)
	if got, _ := read(t, s); strings.Contains(got, "web") || len(s.known) != 1 {
		t.Errorf("it has left: %s", got)
	}
	d.Mu.Lock()
	d.Down = true
	d.Mu.Unlock()
	if _, _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "ask Docker at "+d.At+" for its networks: ") {
		t.Errorf("Docker is away: %v", err)
	}
}

// Changed tells of the beginning, of each event, and of a stream that was broken.
func TestSharedNamesChanged(t *testing.T) {
	d, s := sharedDocker(t)
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.Changed(ctx, func() {
			select {
			case told <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}()
	<-told
	<-d.Came
	for _, what := range []string{"connect", "disconnect", "rename"} {
		d.Tell(map[bool]string{true: "container", false: "network"}[what == "rename"], what, fake.WideID)
		<-told
	}
	d.HangUp()
	<-told
	cancel()
	<-ended
}
