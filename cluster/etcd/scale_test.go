package etcd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// memory is what a process has, as the kernel says it.
func (s *server) memory() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	testhost.Must(s.t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		s.t.Fatal("no VmRSS")
	}
	return string(m[1]) + " kB"
}

// many is the i-th of many hosts, from 0, with a block.
func many(i int) cluster.Record {
	return cluster.Record{
		Host: cluster.Host{ID: cluster.HostID(fmt.Sprintf("%016x", 0x10000+i)), Name: fmt.Sprintf("n%d", i), Epoch: 1,
			VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 4789)},
		Seq:     1,
		Members: []cluster.Member{{Spec: blue, Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i >> 8), byte(i)}), 32)}}},
	}
}

// TestScale: 1,000 hosts on one etcd, or as many as TAPESTRY_HOSTS says. They are what an engine is for etcd (a lease, a record, a watch), without an engine's memory, and
// share connections; beside them are real engines. It logs what it measures, and fails only if somebody does not see what he should.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("1,000 hosts take a while")
	}
	const conns, real = 50, 3
	hosts := 1000
	if text := os.Getenv("TAPESTRY_HOSTS"); text != "" {
		var err error
		hosts, err = strconv.Atoi(text)
		testhost.Must(t, err)
	}
	s := newServer(t)
	l := newLayout("/tapestry", "test")
	ctx, cancel := context.WithCancel(t.Context())
	t.Logf("etcd has %s at the beginning", s.memory())

	var clients []*clientv3.Client
	var all sync.WaitGroup
	defer func() {
		cancel()
		all.Wait()
		for _, c := range clients {
			c.Close()
		}
	}()
	for range conns {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.client}, Logger: zap.NewNop()})
		testhost.Must(t, err)
		clients = append(clients, c)
	}
	each := func(f func(i int, c *clientv3.Client) error) time.Duration {
		t.Helper()
		began := time.Now()
		var wg sync.WaitGroup
		for j := range conns {
			wg.Go(func() {
				for i := j; i < hosts; i += conns {
					if err := f(i, clients[j]); err != nil {
						t.Errorf("host %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		return time.Since(began).Round(time.Millisecond)
	}
	took := each(func(i int, c *clientv3.Client) error {
		r := many(i)
		b, err := r.Encode()
		if err != nil {
			return err
		}
		lease, err := c.Grant(ctx, 600)
		if err != nil {
			return err
		}
		_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(l.alive(r.ID)), "=", 0)).
			Then(clientv3.OpPut(l.alive(r.ID), aliveValue(1, "x"), clientv3.WithLease(lease.ID)), clientv3.OpPut(l.record(r.ID), string(b))).Commit()
		return err
	})
	t.Logf("%d hosts have joined after %v; etcd has %s", hosts, took, s.memory())

	var engines []*host
	for i := range real {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		h := newHost(t, s).start(1 + i).connected()
		testhost.Until(t, "all hosts are seen", func() bool { return len(h.dir.Hosts()) >= hosts })
		took := time.Since(began).Round(time.Millisecond)
		runtime.GC()
		runtime.ReadMemStats(&after)
		t.Logf("an engine sees all after %v, and has %d kB with its directory", took, (int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024)
		engines = append(engines, h)
	}

	seen := make(chan string, 2*hosts) // the value of the change, by each
	took = each(func(i int, c *clientv3.Client) error {
		w, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
		if err == nil {
			err = w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
				Key: []byte(l.hosts()), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(l.hosts())), Fragment: true}}})
		}
		if err == nil {
			_, err = w.Recv()
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			for {
				r, err := w.Recv()
				if err != nil {
					return
				}
				for _, ev := range r.Events {
					if strings.Contains(string(ev.Kv.Value), "changed") {
						seen <- string(ev.Kv.Value)
					}
				}
			}
		})
		return nil
	})
	t.Logf("%d hosts watch after %v; etcd has %s", hosts, took, s.memory())

	for round := range 3 {
		began := time.Now()
		first := engines[0]
		first.Publish(member(), nil, []cluster.Name{{Key: "blue", Name: fmt.Sprintf("changed%d", round), Addrs: []netip.Addr{netip.MustParseAddr("10.50.0.9")}}})
		for n := range hosts {
			select {
			case <-seen:
			case <-time.After(testhost.Patience):
				t.Fatalf("%d of %d have seen the change", n, hosts)
			}
		}
		t.Logf("a change was seen by %d after %v", hosts, time.Since(began).Round(time.Millisecond))
		for _, h := range engines[1:] {
			testhost.Until(t, "the engines have seen it", func() bool { return len(h.dir.Resolve("blue", fmt.Sprintf("changed%d", round))) == 1 })
		}
	}
	t.Logf("etcd has %s at the end", s.memory())
}

// TestMany: real engines that all start at once see each other.
func TestMany(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred engines take a while")
	}
	const n = 100
	s := newServer(t)
	began := time.Now()
	var all []*host
	for i := range n {
		all = append(all, newHost(t, s).start(1+i))
	}
	for _, h := range all {
		testhost.Until(t, "all see all", func() bool { return len(h.dir.Hosts()) == n-1 })
		h.connected()
	}
	t.Logf("%d engines see each other after %v; etcd has %s", n, time.Since(began).Round(time.Millisecond), s.memory())
}
