package docker

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/fake"
)

// FuzzDockerNames: whatever Docker replies about a network, the names are those of the reply, and the same reply again changes nothing.
func FuzzDockerNames(f *testing.F) {
	const end = `"c0":{"Name":"web","EndpointID":"` + fake.WebID + `","IPv4Address":"10.80.1.2/16","IPv6Address":"fd80::2/64"}`
	f.Add([]byte(`{"Id":"` + fake.WideID + `","Name":"wide","Driver":"tapestry","Containers":{` + end + `}}`))
	f.Add([]byte(`{"Name":"wide","Containers":{` + end + `,"ep-1":{"Name":"","EndpointID":"` + fake.WebID + `"},"c1":{"Name":"web","IPv4Address":"10.80.1.2"}}}`))
	f.Add([]byte(`{"Containers":{"c0":{"IPv4Address":"10.80.1.2/16/9","IPv6Address":"::ffff:10.80.1.2%eth0"},"":null}}`))
	f.Add([]byte(`{"Containers":[]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var w Network
		if json.Unmarshal(text, &w) != nil {
			return
		}
		n := &Names{engine: &Engine{}}
		n.now.Store(&snapshot{})
		n.update(func(d *snapshot) { d.networks[fake.WideID] = "" })
		tell := func() { n.update(func(d *snapshot) { d.learn(map[string]Network{fake.WideID: w}, nil) }) }
		tell()
		version := n.Version()
		// Two endpoints with one id would replace each other; Docker never has that.
		ids := make(map[string]int)
		for container, c := range w.Containers {
			ids[c.EndpointID]++
			if !slices.ContainsFunc(slices.Sorted(maps.Keys(w.Containers)), func(other string) bool {
				x := w.Containers[other]
				return x.EndpointID == c.EndpointID && x.Name == n.Container(c.EndpointID)
			}) {
				t.Errorf("%q at %q is called %q", container, c.EndpointID, n.Container(c.EndpointID))
			}
		}
		if tell(); len(ids) == len(w.Containers) && n.Version() != version {
			t.Errorf("the same reply again changes it: %s", text)
		}
		for _, known := range n.Since(0) {
			if hosts := n.Addrs(known.Name); !slices.Contains(hosts, known.Addr) || !slices.IsSortedFunc(hosts, netip.Addr.Compare) {
				t.Errorf("%s is %q, whose addresses are %v", known.Addr, known.Name, hosts)
			}
		}
		n.update(func(d *snapshot) { d.learn(nil, map[string]bool{fake.WideID: true}) })
		if ends := n.now.Load().endpointIDs(func(string, endpointInfo) bool { return true }); len(ends) > 0 {
			t.Errorf("the network is gone, and its endpoints are %s", strings.Join(ends, ", "))
		}
	})
}
