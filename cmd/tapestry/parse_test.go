package main

import (
	"encoding/json"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// FuzzFlags: what a size or an address to listen at is read as can be asked of the daemon, and is read so again.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"", "0", "1", "4096", "100MB", "1GiB", "1.5 k", "8GB", "9GB", "1e3", ".", "..5", "1<<20", "9999999999999TiB",
		"127.0.0.1:19000", "localhost:1", "[::1]:65535", "[::1%lo]:0", "[::ffff:127.0.0.1]:1", "0.0.0.0:1", ":1", "127.0.0.1:65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && (n < 1 || n > 1<<60) {
			t.Errorf("%q is a size of %d", s, n)
		}
		if again, bad := parseSize(strconv.FormatInt(n, 10)); err == nil && n < 1<<53 && (bad != nil || again != n) {
			t.Errorf("%q is a size of %d, and that one of %d, %v", s, n, again, bad)
		}
		if n, err := parseFileSize(s); err == nil && n < 4096 {
			t.Errorf("%q is a file size of %d", s, n)
		}
		power := func(n int) bool { return bits.OnesCount(uint(n)) == 1 }
		if ring, err := parseRing(s); err == nil && (!power(ring) || ring < 64<<10 || ring > 1<<30 || int64(ring) < n) {
			t.Errorf("%q is a ring of %d for %d", s, ring, n)
		}
		if size, err := parseRecorder(s); err == nil && s != "0" && (!power(size) || size < 2<<20 || size > 8<<30 || int64(size) < n) {
			t.Errorf("%q is a recorder of %d for %d", s, size, n)
		}
		at, err := parseListen(s)
		if err != nil {
			return
		}
		host, _, bad := net.SplitHostPort(at)
		if a, no := netip.ParseAddr(host); bad != nil || no != nil || !a.IsLoopback() {
			t.Errorf("%q listens at %q", s, at)
		}
		if again, err := parseListen(at); err != nil || again != at {
			t.Errorf("%q listens at %q, and that at %q, %v", s, at, again, err)
		}
	})
}

// FuzzDockerNames: whatever Docker tells of a network, names are what it said, and asking again changes nothing.
func FuzzDockerNames(f *testing.F) {
	const end = `"c0":{"Name":"web","EndpointID":"` + webID + `","IPv4Address":"10.80.1.2/16","IPv6Address":"fd80::2/64"}`
	f.Add([]byte(`{"Id":"` + wideID + `","Name":"wide","Driver":"tapestry","Containers":{` + end + `}}`))
	f.Add([]byte(`{"Name":"wide","Containers":{` + end + `,"ep-1":{"Name":"","EndpointID":"` + webID + `"},"c1":{"Name":"web","IPv4Address":"10.80.1.2"}}}`))
	f.Add([]byte(`{"Containers":{"c0":{"IPv4Address":"10.80.1.2/16/9","IPv6Address":"::ffff:10.80.1.2%eth0"},"":null}}`))
	f.Add([]byte(`{"Containers":[]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var w dockerNetwork
		if json.Unmarshal(text, &w) != nil {
			return
		}
		n := &names{docker: &docker{}}
		n.now.Store(&directory{})
		n.replace(func(d *directory) { d.networks[wideID] = "" })
		tell := func() { n.replace(func(d *directory) { d.learn(map[string]dockerNetwork{wideID: w}, nil) }) }
		tell()
		version := n.Version()
		// Two ends with one id, of which Docker has none, would take turns.
		ids := make(map[string]int)
		for container, c := range w.Containers {
			ids[c.EndpointID]++
			if !slices.ContainsFunc(sortedKeys(w.Containers), func(other string) bool {
				x := w.Containers[other]
				return x.EndpointID == c.EndpointID && x.Name == n.Container(c.EndpointID)
			}) {
				t.Errorf("%q at %q is called %q", container, c.EndpointID, n.Container(c.EndpointID))
			}
		}
		if tell(); len(ids) == len(w.Containers) && n.Version() != version {
			t.Errorf("told the same again, it changes: %s", text)
		}
		for _, known := range n.Since(0) {
			if hosts := n.Host(known.Name); !slices.Contains(hosts, known.Addr) || !slices.IsSortedFunc(hosts, netip.Addr.Compare) {
				t.Errorf("%s is %q, whose addresses are %v", known.Addr, known.Name, hosts)
			}
		}
		n.replace(func(d *directory) { d.learn(nil, map[string]bool{wideID: true}) })
		if ends := n.now.Load().ends(func(string, namedEnd) bool { return true }); len(ends) > 0 {
			t.Errorf("the network has gone, and its ends are %s", strings.Join(ends, ", "))
		}
	})
}
