package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestRecorder: recorder dump, flows and watch.
func TestRecorder(t *testing.T) {
	h := newWatched(t, "recorder")
	t.Run("a drop outlives a flood", func(t *testing.T) { recorderFlood(t, h) })
	t.Run("off and on", func(t *testing.T) { recorderOff(t, h) })
	t.Run("a container that has stopped", func(t *testing.T) { recorderStopped(t, h) })
	t.Run("flows and top", func(t *testing.T) { recorderFlows(t, h) })
	t.Run("watch", func(t *testing.T) { watchLines(t, h) })
	t.Run("faults are marked", func(t *testing.T) { watchFaults(t, h) })
	t.Run("a container in another one's network namespace", func(t *testing.T) { lookShared(t, h) })
}

type recorderState struct {
	On           bool
	Bytes        int
	Frames, Kept uint64
	Since        string
	DropsKept    uint64 `json:"drops_kept"`
}

func (h *Host) recorder(t *testing.T) (r recorderState) {
	t.Helper()
	if err := json.Unmarshal([]byte(h.tapestry(t, "recorder", "status", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// dump saves what the recorder holds, and returns the file and the command's output.
func (h *Host) dump(t *testing.T, args ...string) (path, said string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dump.pcapng")
	code, said := h.exit(t, append([]string{"recorder", "dump", "-w", path}, args...)...)
	if code != 0 {
		t.Fatalf("recorder dump: exit code %d: %s", code, said)
	}
	return path, said
}

func recorderFlood(t *testing.T, h *Host) {
	h.quiet(t, "address conflict")
	if r := h.recorder(t); !r.On || r.Bytes != 32<<20 || r.Since == "" {
		t.Errorf("at the start the recorder is %+v", r)
	}
	h.tapestry(t, "recorder", "size", "2MB")
	h.spoof(t, "web", dbMAC, "10.77.0.99")
	if path, said := h.dump(t); !strings.Contains(said, "since the recorder was switched on") || len(readFile(t, path).packets) == 0 {
		t.Errorf("before the flood: %s", said)
	}
	missed := lost(t, h.exec(t, "web", "ping", "-n", "-q", "-f", "-c", "30000", "-W20", "-s", "400", dbAddress))
	r := h.recorder(t)
	if r.Bytes != 2<<20 || r.Frames < uint64(60_000-2*missed) || r.Kept > 45_000 || r.Kept < 5_000 || r.DropsKept == 0 {
		t.Errorf("after the flood %+v", r)
	}
	path, said := h.dump(t, "--last", "20m") // the flood may have taken minutes
	if !regexp.MustCompile(`asked for the last 20m[ 0s]*, have [\dms. ]+ \(older frames were overwritten\): [\d,]+ frames into`).MatchString(said) {
		t.Errorf("the dump says: %s", said)
	}
	dropped := rows(t, path, `frame.comment contains "reason=spoofed"`, "frame.interface_name", "arp.dst.proto_ipv4")
	if len(dropped) == 0 || dropped[0] != "web|10.77.0.99" {
		t.Errorf("the drops that were kept: %q", dropped)
	}
	c := readFile(t, path)
	if n := packetsIn(t, path); n != len(c.packets) || n < int(r.Kept) {
		t.Errorf("the dump has %d packets, we read %d, kept were %d", n, len(c.packets), r.Kept)
	}
	for _, p := range c.packets {
		if len(p.Data) > 128 || p.Drops != 0 || p.Verdict != nil {
			t.Fatalf("%d bytes are kept, %d lost before it", len(p.Data), p.Drops)
		}
	}
	inOrder(t, path)
	if said := h.tapestry(t, "recorder", "dump", "web", "--", "arp", "host", "10.77.0.99"); !strings.Contains(said, "DROP spoofed: its source address") {
		t.Errorf("the drops read: %s", said)
	}
}

func recorderOff(t *testing.T, h *Host) {
	h.quiet(t)
	h.tapestry(t, "recorder", "off")
	h.pings(t, "web", dbAddress, 1)
	if r := h.recorder(t); r.On || r.Frames != 0 {
		t.Errorf("off it is %+v", r)
	}
	for _, args := range [][]string{{"recorder", "dump"}, {"flows"}} {
		if code, said := h.exit(t, args...); code != 1 || !strings.Contains(said, "tapestry recorder on") {
			t.Errorf("%v of a recorder that is off: exit code %d: %s", args, code, said)
		}
	}
	h.tapestry(t, "recorder", "on")
	h.pings(t, "web", dbAddress, 2)
	if r := h.recorder(t); !r.On || r.Bytes != 32<<20 || r.Kept < 4 || r.Kept != r.Frames {
		t.Errorf("on again it is %+v", r)
	}
	if said := h.tapestry(t, "recorder", "dump", "web", "--", "icmp"); strings.Count(said, "web → db  ICMP echo request") != 2 || strings.Count(said, "db → web  ICMP echo reply") != 2 {
		t.Errorf("dump prints: %s", said)
	}
	if code, said := h.exit(t, "recorder", "size", "1MB"); code != 2 {
		t.Errorf("too small: exit code %d: %s", code, said)
	}
}

// A dump has the frames of a container that has crashed.
func recorderStopped(t *testing.T, h *Host) {
	h.quiet(t)
	if said, err := h.try("docker", "run", "--name", "job", "--network", "mynet", "tp/net",
		"sh", "-c", "ping -n -q -c 3 -i 0.01 "+dbAddress+"; exit 7"); err == nil {
		t.Fatalf("it should have failed: %s", said)
	}
	h.released(t, "job")
	h.run(t, "heir", "mynet") // gets job's address
	h.pings(t, "heir", dbAddress, 1)
	if said := h.tapestry(t, "recorder", "dump", "job", "--", "icmp"); strings.Count(said, "job → db  ICMP echo request") != 3 || strings.Count(said, "db → job  ICMP echo reply") != 3 {
		t.Errorf("dump prints: %s", said)
	}
	path, _ := h.dump(t, "job")
	names := rows(t, path, "icmp.type == 8", "frame.interface_name", "ip.src_host", "ip.src")
	if len(names) != 3 || names[0] != "job|job|"+h.address(t, "heir", "mynet") {
		t.Errorf("the file says %q", names)
	}
	if said := h.tapestry(t, "recorder", "dump", "heir", "--", "icmp"); strings.Count(said, "heir → db  ICMP echo request") != 1 {
		t.Errorf("dump of who has the address now prints: %s", said)
	}
	if info := rows(t, path, "frame.number == 1", "frame.interface_description"); strings.Contains(strings.Join(info, ""), "sandbox=") {
		t.Errorf("the file says %q", info)
	}
	if said := h.tapestry(t, "flows", "job"); !regexp.MustCompile(`(?m)^mynet +job +db +icmp +3/3 `).MatchString(said) {
		t.Errorf("flows prints:\n%s", said)
	}
	if code, said := h.exit(t, "watch", "job"); code != 4 || !strings.Contains(said, "container job does not run") {
		t.Errorf("watch: exit code %d: %s", code, said)
	}
	h.docker(t, "rm", "job")
	if code, said := h.exit(t, "recorder", "dump", "job"); code != 4 || !strings.Contains(said, `no container "job"`) {
		t.Errorf("removed: exit code %d: %s", code, said)
	}
	h.docker(t, "create", "--name", "job", "--network", "mynet", "tp/net", "true")
	if code, said := h.exit(t, "flows", "job"); code != 4 || !strings.Contains(said, "container job has never run") {
		t.Errorf("created: exit code %d: %s", code, said)
	}
	h.docker(t, "rm", "job")
	h.docker(t, "run", "-d", "--restart", "always", "--name", "loop", "--network", "mynet", "tp/net", "ping", "-c", "1", dbAddress)
	testhost.Eventually(t, patience, func() error {
		if state := strings.TrimSpace(h.docker(t, "inspect", "-f", "{{.State.Restarting}}", "loop")); state != "true" {
			return fmt.Errorf("restarting: %s", state)
		}
		return nil
	})
	testhost.Eventually(t, patience, func() error { // while it starts Docker does not tell as what
		if said, err := h.try("tapestry", "recorder", "dump", "loop", "--", "icmp"); err != nil || !strings.Contains(said, "loop → db  ICMP echo request") {
			return fmt.Errorf("of a container that is started again and again, dump prints: %s, %v", said, err)
		}
		return nil
	})
	h.docker(t, "rm", "-f", "loop", "heir")
}

type flowTable struct {
	Source string
	Total  struct{ Frames, Bytes uint64 }
	Flows  []struct {
		Network   string `json:"network_name"`
		Proto     string
		A, B      struct{ Address, Name string }
		Out       struct{ Frames, Bytes uint64 } `json:"a_to_b"`
		Back      struct{ Frames, Bytes uint64 } `json:"b_to_a"`
		Forwarded uint64
		Drops     map[string]uint64
	}
}

// pingFlow checks that a table has one conversation of so many pings between web and db.
func pingFlow(t *testing.T, text, source string, n uint64) {
	t.Helper()
	var table flowTable
	if err := json.Unmarshal([]byte(text), &table); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	found := 0
	for _, f := range table.Flows {
		if f.Proto == "icmp" && f.A.Name == "web" && f.B.Name == "db" && f.A.Address == "10.77.0.11" && (f.Network == "mynet" || source == "file") {
			found++
			if f.Out.Frames != n || f.Back.Frames != n || f.Out.Bytes != 98*n || f.Forwarded != 2*n || f.Drops["spoofed"] != 0 {
				t.Errorf("%d pings are %+v", n, f)
			}
		}
	}
	if found != 1 || table.Source != source {
		t.Errorf("%d conversations of web and db, want one, from %q, not %q: %s", found, source, table.Source, text)
	}
}

func recorderFlows(t *testing.T, h *Host) {
	h.quiet(t)
	h.tapestry(t, "recorder", "size", "32MB") // empty
	h.pings(t, "web", dbAddress, 7)
	pingFlow(t, h.tapestry(t, "flows", "web", "--json"), "recorder", 7)
	if said := h.tapestry(t, "flows"); !regexp.MustCompile(`(?m)^mynet +web +db +icmp +7/7 +1,?\.?\d* ?\w+ `).MatchString(said) || !strings.Contains(said, "in the flight recorder: the last ") {
		t.Errorf("flows prints:\n%s", said)
	}
	path, _ := h.dump(t)
	pingFlow(t, h.tapestry(t, "flows", "-r", path, "--json"), "file", 7)

	for every := 8 * time.Second; ; every *= 2 {
		h.awaitCaptures(t, 0)
		began := time.Now()
		top := h.background(t, "", "tapestry", "top", "--once", "--json", "--every", every.String(), "--", "icmp")
		h.awaitCaptures(t, 1)
		h.pings(t, "web", dbAddress, 5)
		within := time.Since(began) < every // all of them are in top's interval
		code, said := top.exit(t)
		if code != 0 {
			t.Fatalf("top: exit code %d: %s", code, said)
		}
		if within {
			pingFlow(t, said, "", 5)
			return
		}
	}
}

// awaitCaptures waits until so many captures run.
func (h *Host) awaitCaptures(t *testing.T, n int) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		if running := len(h.captures(t)); running != n {
			return fmt.Errorf("%d captures run, want %d", running, n)
		}
		return nil
	})
}

// nextCapture returns a function that waits until a capture runs that does not run yet. Their number says nothing: one before it may
// still be about to end.
func (h *Host) nextCapture(t *testing.T) (await func()) {
	t.Helper()
	before := map[string]bool{}
	for _, c := range h.captures(t) {
		before[c.ID] = true
	}
	return func() {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			for _, c := range h.captures(t) {
				if !before[c.ID] {
					return nil
				}
			}
			return errors.New("no further capture runs")
		})
	}
}

// watch runs tapestry watch until it ends by itself, makes the traffic for it, and returns its lines.
func (h *Host) watch(t *testing.T, traffic func(), args ...string) []string {
	t.Helper()
	capturing := h.nextCapture(t)
	w := &background{cmd: h.command(append([]string{"tapestry", "watch"}, args...)...)}
	w.cmd.Stdout = &w.said // the sums go to stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	capturing()
	traffic()
	if code, said := w.exit(t); code != 0 {
		t.Fatalf("watch: exit code %d: %s", code, said)
	}
	return strings.Split(strings.TrimSpace(w.said.String()), "\n")
}

func watchLines(t *testing.T, h *Host) {
	h.quiet(t, "address conflict")
	ping := func() { h.pings(t, "web", dbAddress, 3, "-i", "1") } // each answer before the next question
	const clock = `^\d\d:\d\d:\d\d\.\d{6} `
	lines := h.watch(t, ping, "web", "-n", "3", "-f", "icmp")
	for i, want := range []string{`web → db  ICMP echo request id \d+ seq 1  98 B$`, `db → web  ICMP echo reply id \d+ seq 1  98 B$`, `web → db  ICMP echo request id \d+ seq 2  98 B$`} {
		if len(lines) != 3 || !regexp.MustCompile(clock+want).MatchString(lines[i]) {
			t.Fatalf("watch prints %q, want line %d like %s", lines, i, want)
		}
	}
	dropped := h.watch(t, func() { h.spoof(t, "web", dbMAC, "10.77.0.99") }, "network:mynet", "--drops", "-n", "1")
	if want := clock + `web → broadcast  ARP who has 10\.77\.0\.99\? tell web  42 B  DROP spoofed: its source address belongs to another container`; len(dropped) != 1 ||
		!regexp.MustCompile(strings.Replace(want, "tell web", `tell \S+`, 1)).MatchString(dropped[0]) {
		t.Errorf("watch --drops prints %q", dropped)
	}
	for i, line := range h.watch(t, ping, "web", "--json", "-n", "3", "--", "icmp") {
		var f struct {
			Time, Interface, Network, Verdict, Info string
			SrcName                                 string `json:"src_name"`
			DstName                                 string `json:"dst_name"`
			ID                                      uint64
			Len                                     int
			IP                                      struct{ Src, Dst string }
			ICMP                                    struct{ Type, Seq int }
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		want := []string{"web web db 8 1", "db db web 0 1", "web web db 8 2"}[i]
		if got := fmt.Sprint(f.Interface, " ", f.SrcName, " ", f.DstName, " ", f.ICMP.Type, " ", f.ICMP.Seq); got != want ||
			f.Network != "mynet" || f.Verdict != "forwarded" || f.ID == 0 || f.Len != 98 || f.Time == "" || f.Info == "" || f.IP.Src == "" {
			t.Errorf("line %d is %s, want %s in %s", i, got, want, line)
		}
	}
}

func watchFaults(t *testing.T, h *Host) {
	h.quiet(t)
	defer h.tapestry(t, "fault", "clear", "all")
	h.tapestry(t, "fault", "set", "web", "--delay", "20ms", "--dir", "from")
	k := h.startCapture(t, "fault.pcapng", "web", "db", "-f", "icmp") // what is lost on its way to db is seen at db
	lines := h.watch(t, func() { h.pings(t, "web", dbAddress, 2, "-i", "1") }, "web", "-n", "4", "-f", "icmp")
	for _, line := range lines {
		if strings.Contains(line, "echo request") != strings.HasSuffix(line, "  98 B  FAULT delay") {
			t.Errorf("watch prints %q", lines)
		}
	}
	h.tapestry(t, "fault", "clear", "all")
	h.tapestry(t, "fault", "set", "db", "--loss", "100%", "--dir", "to")
	h.tryExec("web", "ping", "-n", "-c1", "-W1", dbAddress)
	h.tapestry(t, "fault", "clear", "all")
	h.pings(t, "web", dbAddress, 1)
	k.end(t)
	got := rows(t, k.path, "icmp", "icmp.type", "frame.comment")
	const delayed, lost = "8|verdict=forwarded out=db fault=delay: this was done on purpose, by tapestry fault", "8|verdict=drop reason=fault fault=loss: lost on purpose, by tapestry fault"
	want := []string{delayed, "0|", delayed, "0|", "8|", lost, "8|", "0|"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the capture reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
