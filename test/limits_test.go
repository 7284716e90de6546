package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestLimits: what a container may send and receive, and with whom, as its options say.
func TestLimits(t *testing.T) {
	h := newNode(t, "limits")
	h.network(t, "X", "--subnet", "10.77.0.0/24", "--ipv6", "--subnet", "fd77::/64", "-o", "tapestry.host=on")
	h.run(t, "free", "X", "--ip", "10.77.0.20")
	h.run(t, "other", "X", "--ip", "10.77.0.21")
	id := strings.TrimSpace(h.docker(t, "network", "inspect", "--format", "{{.Id}}", "X")) // docker run of 20.10 makes its name small
	for name, opts := range map[string]string{"limited": "driver-opt=tapestry.rate=100mbit", "calm": "driver-opt=tapestry.storm=50",
		"alone": "ip=10.77.0.30,ip6=fd77::30,driver-opt=tapestry.isolated=on,driver-opt=tapestry.allow-to=10.77.0.20"} {
		h.docker(t, "run", "-d", "--name", name, "--network", "name="+id+","+opts, "tp/net")
	}
	drops := func(container string) map[string]uint64 {
		var ports []struct {
			Container string
			Drops     map[string]uint64
		}
		testhost.Must(t, json.Unmarshal([]byte(h.tapestry(t, "ports", "X", "--json")), &ports))
		for _, p := range ports {
			if p.Container == container {
				return p.Drops
			}
		}
		t.Fatalf("no port of %s", container)
		return nil
	}

	t.Run("TCP reaches a container's rate both ways, and no more", func(t *testing.T) {
		h.quiet(t)
		for _, args := range [][]string{{}, {"--reverse"}, {"-C", "cubic"}, {"-C", "cubic", "--reverse"}} {
			got := 0.
			for range 5 { // what may be sent at once at first is left out
				// The bucket has half a second, and a receiver's buffer about as much.
				if got = h.goodput(t, "free", "limited", append(args, "-f", "m", "-t", "10", "--omit", "2")...); got > 115 {
					t.Fatalf("%v: %.1f Mbit/s", args, got)
				}
				if got >= 95 {
					break
				}
			}
			t.Logf("%v: %.1f Mbit/s", args, got)
			if got < 50 { // a busy machine does not reach what a quiet one does: 99
				t.Errorf("%v: %.1f Mbit/s of 100", args, got)
			}
		}
		if drops("limited")["rate"] == 0 || drops("free")["rate"] == 0 {
			t.Errorf("nothing was dropped as rate: %v, %v", drops("limited"), drops("free"))
		}
	})

	t.Run("an isolated container reaches whom it may reach, and nobody else", func(t *testing.T) {
		h.quiet(t)
		reaches := func(from, to string) bool {
			_, err := h.tryExec(from, "ping", "-n", "-c1", "-W2", to)
			return err == nil
		}
		if !reaches("alone", "10.77.0.20") || !reaches("free", "10.77.0.30") {
			t.Error("it does not reach the one that it may reach")
		}
		for _, to := range []string{"10.77.0.21", "10.77.0.1", "fd77::1"} {
			if reaches("alone", to) {
				t.Errorf("it reaches %s", to)
			}
		}
		if reaches("other", "10.77.0.30") || h.reaches("10.77.0.30", 1) == nil {
			t.Error("others reach it")
		}
		if !reaches("other", "10.77.0.20") || drops("alone")["isolated"] == 0 {
			t.Error("others do not reach each other, or nothing was counted")
		}
		if got := h.tapestry(t, "trace", "alone", "10.77.0.20"); !strings.Contains(got, "within the limits") {
			t.Errorf("trace says %s", got)
		}
		if code, got := h.exit(t, "trace", "other", "alone"); code == 0 || !strings.Contains(got, "isolated") {
			t.Errorf("trace: exit code %d, %s", code, got)
		}
	})

	t.Run("a storm is cut, and told once", func(t *testing.T) {
		h.quiet(t, "a container floods more than it may")
		frame := packets.Ethernet(ether.TypeExperimental, packets.Data(46))
		copy(frame, []byte{255, 255, 255, 255, 255, 255})
		testhost.Eventually(t, patience, func() error {
			h.sendRaw(t, "calm", slices.Repeat([][]byte{frame}, 1000)...)
			if drops("calm")["storm"] == 0 {
				return fmt.Errorf("%v", drops("calm"))
			}
			return nil
		})
		h.ping(t, "free", "10.77.0.21")
	})
}

// TestAddressFlood: a container that sends from a million addresses fills the part of the table that is its own, and no memory; others notice nothing.
func TestAddressFlood(t *testing.T) {
	h := newNode(t, "flood")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.run(t, "one", "X")
	h.run(t, "two", "X", "--ip", "10.77.0.50")
	h.run(t, "evil", "X")
	h.ping(t, "one", "10.77.0.50")
	memory := func() int {
		m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(h.in(t, "sh", "-c", "cat /proc/$(pidof -s tapestry)/status"))
		kb, err := strconv.Atoi(m[1])
		testhost.Must(t, err)
		return kb
	}
	h.tapestry(t, "recorder", "off") // which fills the memory that it may have
	const pings = 1000
	times := func(flood func()) (p99 float64) {
		t.Helper()
		b := h.background(t, "one", "ping", "-n", "-i", "0.01", "-c", fmt.Sprint(pings), "-W", "20", "10.77.0.50")
		flood()
		said, err := b.wait(t)
		var all []float64
		for _, m := range regexp.MustCompile(`time=([\d.]+) ms`).FindAllStringSubmatch(said, -1) {
			ms, _ := strconv.ParseFloat(m[1], 64)
			all = append(all, ms)
		}
		if err != nil || len(all) != pings {
			t.Fatalf("%d of %d pings were answered: %v", len(all), pings, err)
		}
		slices.Sort(all)
		return all[pings*99/100]
	}
	quiet := times(func() {})
	frames, n := make([][]byte, 10_000), 0
	flood := func(count int) {
		for end := n + count; n < end; {
			for i := range frames {
				frames[i] = packets.Ethernet(ether.TypeExperimental, packets.Data(46))
				copy(frames[i][6:], []byte{2, 0xf1, 0, byte(n >> 16), byte(n >> 8), byte(n)})
				n++
			}
			h.sendRaw(t, "evil", frames...)
		}
	}
	flood(50_000)
	before := memory()
	loud := times(func() { flood(1_000_000) })
	grown := memory() - before
	t.Logf("p99 %.3f ms, beside the flood %.3f ms; the daemon grew by %d kB", quiet, loud, grown)
	if grown > 64<<10 { // a million addresses would be 150 MB
		t.Errorf("the daemon grew by %d kB", grown)
	}
	var entries []struct{ Container string }
	testhost.Must(t, json.Unmarshal([]byte(h.tapestry(t, "fdb", "X", "--json")), &entries))
	flooded := 0
	for _, e := range entries {
		if e.Container == "evil" {
			flooded++
		}
	}
	if flooded < 200 || flooded > 257 {
		t.Errorf("the table has %d addresses of the flooder, want 256 and its own", flooded)
	}
	h.checkCounters(t)
}
