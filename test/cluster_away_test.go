package test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestClusterAway: what goes on while etcd is stopped, after its data came back from a while ago, and when a host dies.
// TAPESTRY_AWAY=10m keeps it stopped for so long.
func TestClusterAway(t *testing.T) {
	testhost.Tools(t, "etcd")
	away := 5 * time.Second
	if text := os.Getenv("TAPESTRY_AWAY"); text != "" {
		var err error
		away, err = time.ParseDuration(text)
		testhost.Must(t, err)
	}
	server := &etcdServer{}
	hosts, outside := newBareHosts(t, "away", 3, func(outside *Host) {
		server.on = outside
		server.start(t)
		t.Cleanup(func() { server.stop(t) })
	}, "--cluster", "etcd", "--etcd", etcdEndpoint)
	var residents []*bareContainer
	start := func(h *bare) *bareContainer {
		c, err := h.start("blue", blueSubnet, "")
		testhost.Must(t, err)
		return c
	}
	testhost.Must(t, hosts[0].create("blue", blueSubnet, false))
	server.stop(t)
	outside.in(t, "cp", "-a", outside.dir+"/etcd", outside.dir+"/etcd.old") // one host and one block are in it
	server.start(t)
	for i, h := range hosts {
		if i > 0 {
			testhost.Must(t, h.create("blue", blueSubnet, false))
		}
		residents = append(residents, start(h))
	}
	a, b := residents[0], residents[1]
	settled := func() {
		t.Helper()
		for _, h := range hosts {
			testhost.Eventually(t, patience, func() error { return h.sees(len(hosts)) })
		}
	}
	settled()

	t.Run("etcd is stopped", func(t *testing.T) {
		for _, h := range hosts {
			h.quiet(t, "the cluster is away")
		}
		served := b.on.background(t, "", "ip", "netns", "exec", b.name, "iperf3", "-s", "-1", "--forceflush")
		served.await(t, "listening")
		ping := a.pings(t, b.addr)
		ping.goesOn(t)
		stream := a.on.background(t, "", "ip", "netns", "exec", a.name, "iperf3", "-c", b.addr, "-t", fmt.Sprint(int(away.Seconds())), "-b", "50M", "-J")
		server.stop(t)
		began := time.Now()
		for _, h := range hosts {
			testhost.Eventually(t, patience, func() error {
				if h.sees(len(hosts)) == nil {
					return fmt.Errorf("%s still reaches the cluster", h.name)
				}
				return nil
			})
			guest := start(h)
			guest.ping(t, b.addr)
			testhost.Must(t, guest.stop(blueSubnet, false))
		}
		said, err := stream.wait(t)
		var streamed struct {
			Intervals []struct{ Sum struct{ Bytes int } }
		}
		if err != nil || json.Unmarshal([]byte(said), &streamed) != nil || len(streamed.Intervals) == 0 {
			t.Errorf("iperf3: %v, %s", err, said)
		}
		for i, second := range streamed.Intervals {
			if second.Sum.Bytes == 0 {
				t.Errorf("iperf3 moved nothing in its second %d", i)
			}
		}
		ping.goesOn(t)
		t.Logf("etcd was stopped for %v", time.Since(began).Round(time.Second))
		server.start(t)
		settled()
		ping.goesOn(t)
		if said := ping.end(t); holes(said) > 0 {
			t.Errorf("%d frames lost: %s", holes(said), said)
		}
	})

	t.Run("its data are those of before", func(t *testing.T) {
		ping := a.pings(t, b.addr)
		ping.goesOn(t)
		blocks := hosts[0].tapestry(t, "cluster", "blocks")
		server.stop(t)
		outside.in(t, "sh", "-ec", `rm -rf "$1/etcd"; cp -a "$1/etcd.old" "$1/etcd"`, "sh", outside.dir)
		server.start(t)
		settled()
		testhost.Eventually(t, patience, func() error {
			if now := hosts[0].tapestry(t, "cluster", "blocks"); now != blocks {
				return fmt.Errorf("blocks were\n%s\nand are\n%s", blocks, now)
			}
			return nil
		})
		ping.goesOn(t)
		if said := ping.end(t); holes(said) > 0 {
			t.Errorf("%d frames lost: %s", holes(said), said)
		}
		guest := start(hosts[1])
		a.ping(t, guest.addr)
		testhost.Must(t, guest.stop(blueSubnet, false))
	})

	t.Run("a host dies", func(t *testing.T) {
		dead := hosts[2]
		from := hosts[0].mark()
		ping := a.pings(t, residents[2].addr)
		ping.goesOn(t)
		dead.stopDaemon(t, "KILL")
		began := time.Now()
		unused := func(used bool) func() error {
			return func() error {
				for _, r := range hosts[0].records(t, from) {
					if r.Msg == "host of the cluster" && r.Used != nil && *r.Used == used {
						return nil
					}
				}
				return fmt.Errorf("no line says that %s is used: %v", dead.name, used)
			}
		}
		testhost.Eventually(t, patience, unused(false))
		stopped := time.Since(began)
		before := hosts[0].wireTx(t, dead)
		answers := len(answered.FindAllString(ping.said.String(), -1))
		time.Sleep(time.Second) // in which a ping every 200 ms would be sent
		if sent := hosts[0].wireTx(t, dead) - before; sent > 1 {
			t.Errorf("%d datagrams were sent to a dead host in a second", sent) // one asks whether it is there again
		}
		dead.startDaemon(t)
		began = time.Now()
		testhost.Eventually(t, patience, func() error {
			if len(answered.FindAllString(ping.said.String(), -1)) == answers {
				return fmt.Errorf("no answer")
			}
			return nil
		})
		t.Logf("nothing was sent to a dead host after %v; after its return it was reached within %v", stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		ping.end(t)
	})
}

// sees is an error unless the host reaches its cluster, and sees so many hosts alive, without a problem.
func (h *bare) sees(size int) error {
	said, err := h.try("tapestry", "cluster", "status", "--json")
	if err != nil {
		return err
	}
	var v clusterView
	if err := json.Unmarshal([]byte(said), &v); err != nil {
		return err
	}
	for _, one := range v.Hosts {
		if one.State == "alive" || one.State == "this" {
			size--
		}
	}
	if !v.Reachable || size != 0 || len(v.Problems) > 0 {
		return fmt.Errorf("%s: %s", h.name, said)
	}
	return nil
}

// wireTx is how many datagrams were sent to another host.
func (h *bare) wireTx(t *testing.T, to *bare) uint64 {
	t.Helper()
	for _, p := range objects[struct {
		Addr   string `json:"addr"`
		WireTx uint64 `json:"wire_tx"`
	}](t, h.Host, "peers") {
		if p.Addr == to.addr()+":4789" {
			return p.WireTx
		}
	}
	t.Fatalf("%s has no peer %s", h.name, to.addr())
	return 0
}
