package lookup

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// server is DNS.
type server struct {
	mu    sync.Mutex
	names map[string]string // "a b": addresses; "away": no answer; absent: no such name
	asked map[string]int
}

func (s *server) find(ctx context.Context, network, name string) (all []netip.Addr, err error) {
	s.mu.Lock()
	text, ok := s.names[name]
	s.asked[name]++
	s.mu.Unlock()
	switch {
	case !ok:
		return nil, &net.DNSError{Name: name, IsNotFound: true}
	case text == "away":
		<-ctx.Done()
		return nil, &net.DNSError{Name: name, IsTimeout: true}
	}
	for _, a := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

func (s *server) set(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = text
}

func TestTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &server{names: map[string]string{"a": "192.0.2.3 192.0.2.2 192.0.2.3 2001:db8::1", "six": "2001:db8::1", "slow": "away"}, asked: make(map[string]int)}
		log := new(testhost.Log)
		table := New(map[string][]netip.Addr{"slow": {netip.MustParseAddr("192.0.2.9")}}, slog.New(slog.NewTextHandler(log, nil)))
		table.Find = dns.find
		is := func(when, name, want string) {
			t.Helper()
			a := table.Answer(name)
			if got := fmt.Sprint(a.Addrs, " ", a.Err); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %s, want %s", when, name, got, want)
			}
		}
		table.Want([]string{"a", "six", "slow", "none"}, false, false)
		is("before the first look-up", "slow", "[192.0.2.9] <nil>")
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); table.Run(ctx, func() { changes++ }) }()

		wait, stop := context.WithTimeout(t.Context(), 2*time.Second)
		begun := time.Now()
		table.Await(wait, []string{"a", "none", "unknown"})
		if took := time.Since(begun); took > 0 {
			t.Errorf("names that are answered at once take %v", took)
		}
		table.Await(wait, []string{"a", "slow"})
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("a name server that is away takes %v", took)
		}
		stop()
		time.Sleep(limit)
		synctest.Wait()
		is("first", "a", "[192.0.2.2 192.0.2.3] <nil>")
		is("first", "six", "[] it has no address of the VTEP's IP version")
		is("first", "slow", "[192.0.2.9] the name server does not answer")
		is("first", "none", "[] there is no such name")
		if changes != 1 {
			t.Errorf("%d changes", changes)
		}
		// An address that leaves the answer is gone, a name that cannot be looked up keeps its addresses.
		dns.set("a", "192.0.2.4")
		dns.set("none", "192.0.2.5")
		time.Sleep(retry + time.Second)
		synctest.Wait()
		is("5 s later", "a", "[192.0.2.2 192.0.2.3] <nil>")
		is("5 s later", "none", "[192.0.2.5] <nil>")
		time.Sleep(every)
		synctest.Wait()
		is("30 s later", "a", "[192.0.2.4] <nil>")
		dns.set("a", "away")
		time.Sleep(3 * every)
		synctest.Wait()
		is("while DNS is away", "a", "[192.0.2.4] the name server does not answer")
		if n := log.Count("a peer's name is not found in DNS"); n != 4 {
			t.Errorf("%d warnings, want one for each name that failed", n)
		}
		if got := fmt.Sprint(table.Last()); got != "map[a:[192.0.2.4] none:[192.0.2.5] slow:[192.0.2.9]]" {
			t.Errorf("to be kept: %s", got)
		}
		// The tunnel moves to the other IP version.
		dns.set("a", "192.0.2.4 2001:db8::7")
		table.Want([]string{"a", "six"}, true, false)
		time.Sleep(limit)
		synctest.Wait()
		is("IPv6", "a", "[2001:db8::7] <nil>")
		is("IPv6", "six", "[2001:db8::1] <nil>")
		is("IPv6", "none", "[] <nil>")
		asked := dns.asked["a"]
		table.Want(nil, true, false)
		time.Sleep(3 * every)
		if dns.asked["a"] != asked {
			t.Error("a name that nobody wants is looked up")
		}
		cancel()
		<-ended
	})
}

// With an address of each IP version, a name that has none of the first has those of the other; while DNS does not say so, nothing changes.
func TestEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &server{names: map[string]string{"a": "192.0.2.2 2001:db8::2", "six": "2001:db8::1"}, asked: make(map[string]int)}
		table := New(nil, slog.New(slog.DiscardHandler))
		table.Find = dns.find
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { table.Run(ctx, func() {}) })
		defer running.Wait()
		defer cancel()
		is := func(when, name, want string) {
			t.Helper()
			a := table.Answer(name)
			if got := fmt.Sprint(a.Addrs, " ", a.Err); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %s, want %s", when, name, got, want)
			}
		}
		next := func() { time.Sleep(every + limit); synctest.Wait() }
		table.Want([]string{"a", "six", "none"}, false, true)
		next()
		is("first", "a", "[192.0.2.2] <nil>")
		is("first", "six", "[2001:db8::1] <nil>")
		is("first", "none", "[] there is no such name")
		dns.set("a", "away")
		dns.set("six", "2001:db8::1 192.0.2.1")
		next()
		is("DNS is away", "a", "[192.0.2.2] the name server does not answer")
		is("it has got one of the first", "six", "[192.0.2.1] <nil>")
	})
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"host-b": true, "host-b.example.org": true, "h1": true, "1h": true, "a_b": true, "xn--bcher-kva.example": true,
		"": false, "192.0.2.300": false, "192.0.2": false, "300": false, "10.0.0.1o": false, "a..b": false, "a.": false, "-a": false, "a-.b": false,
		"a b": false, "2001:db8::zz": false, "a/b": false, strings.Repeat("a", 64): false, strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 126) + "aa": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
