package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// detail is what the daemon puts into a packet's verdict option (capture.ReadDetail).
func detail(v vswitch.Verdict, fault ether.Fault, kind ether.Kind, segment uint16, out int) func(*pcapng.Packet) {
	return func(p *pcapng.Packet) {
		o := uint32(out + 1)
		p.Verdict = []byte{0, byte(v), byte(fault), byte(kind), byte(segment), byte(segment >> 8), byte(o), byte(o >> 8), byte(o >> 16), byte(o >> 24), 0, 0, 0, 0}
	}
}

func mixedPackets(f *feed) {
	f.ports()
	f.packet(100, detail(vswitch.Forwarded, 0, 0, 0, 2))
	f.packet(100, detail(vswitch.Flooded, 0, 0, 0, -1))
	f.packet(100, detail(vswitch.Spoofed, 0, 0, 0, -1))
	f.packet(100, detail(vswitch.Forwarded, ether.FaultDelayed, 0, 0, 2))
	f.packet(5042, detail(vswitch.Forwarded, 0, ether.UDP, 1000, 2))
	f.packet(100, func(p *pcapng.Packet) { p.Drops = 3 })
	f.stats(9, 3)
}

func TestWatch(t *testing.T) {
	d := newCaptureDaemon(t, mixedPackets)
	r := tapestry(t, d.args(t, "watch", "web")...)
	at := func(n int64) string { return time.Unix(0, feedStart+n*1e6).Format("2006-01-02 15:04:05.000000") } // not today
	udp := " web → db  UDP 40212→8080"
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	want := []string{
		at(1) + udp + "|100 B",
		at(2) + udp + "|100 B  flooded",
		at(3) + udp + "|100 B  DROP spoofed: its source address belongs to another container of this host",
		at(4) + udp + "|100 B  FAULT delay",
		at(5) + udp + "|5042 B ×5",
		"(3 frames lost here: more came than was read in time)|",
		at(6) + udp + "|100 B",
	}
	if len(lines) != len(want) || r.code != exit.OK {
		t.Fatalf("exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
	for i, w := range want {
		head, tail, _ := strings.Cut(w, "|")
		if !strings.HasPrefix(lines[i], head) || !strings.HasSuffix(lines[i], tail) || strings.Contains(lines[i], "cut short") {
			t.Errorf("line %q, want %q", lines[i], w)
		}
	}
	summary := fmt.Sprintf(`3 frames lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)
6 frames, 5.5 kB, 3 lost, %s to %s
verdicts   forwarded 3, drop 1, flooded 1
drops      spoofed 1
protocols  UDP 6
talkers    web → db  6 frames, 5.5 kB
`, at(1), at(6))
	if r.stderr != summary {
		t.Errorf("summary\n%s\nwant\n%s", r.stderr, summary)
	}
	if a := d.asked[0]; !a.Detail || a.Snap != watchSnap || a.Annotate != "none" || a.Bytes != -1 || a.Seconds != -1 {
		t.Errorf("asked for %+v", a)
	}
	colour := tapestry(t, newCaptureDaemon(t, mixedPackets).args(t, "watch", "--color", "always")...).out
	if !strings.Contains(colour, human.Red) || strings.Count(colour, human.Reset) < 3 {
		t.Errorf("no colour in %q", colour)
	}
	full := tapestry(t, newCaptureDaemon(t, mixedPackets).args(t, "watch", "-v")...).out
	if !strings.Contains(full, "\n    ") || !strings.Contains(full, "SrcIP: 10.80.1.2") {
		t.Errorf("not in full:\n%.2000s", full)
	}
}

func TestColours(t *testing.T) {
	master, slave := openTerminal(t)
	defer master.Close()
	defer slave.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !human.Colours("auto", slave) || human.Colours("auto", &bytes.Buffer{}) || human.Colours("never", slave) || !human.Colours("always", nil) {
		t.Error("colours where none belong, or none where they do")
	}
	t.Setenv("NO_COLOR", "1")
	if human.Colours("auto", slave) {
		t.Error("NO_COLOR has no effect")
	}
}

// Every key that watch prints is documented, and those of its own that are documented are printed.
func TestWatchJSON(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) {
		mixedPackets(f)
		f.packet(100, func(p *pcapng.Packet) { p.Comment = "said by somebody" })
	})
	r := tapestry(t, d.args(t, "watch", "--json")...)
	keys := map[string]bool{}
	var all []map[string]any
	for s := bufio.NewScanner(strings.NewReader(r.out)); s.Scan(); {
		var v map[string]any
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		for _, k := range fake.JSONKeys(v, "") {
			keys[k] = true
		}
		all = append(all, v)
	}
	if len(all) != 7 {
		t.Fatalf("%d objects: %s", len(all), r.stderr)
	}
	docs := fake.DocumentedKeys(t)["watch"]
	for k := range keys {
		if !slices.Contains(docs, k) {
			t.Errorf("%s stands not in docs/json.md", k)
		}
	}
	for _, k := range docs {
		if own := !strings.Contains(k, ".") && !slices.Contains([]string{"link", "arp", "icmp", "igmp", "app", "error"}, k); own && !keys[k] {
			t.Errorf("docs/json.md explains %s, which is not there", k)
		}
	}
	x := all[2]
	if x["verdict"] != "drop" || x["reason"] != "spoofed" || x["interface"] != "web@wide" || x["network"] != "wide" || x["src_name"] != "web" ||
		x["time"] != time.Unix(0, feedStart+3e6).UTC().Format(time.RFC3339Nano) {
		t.Errorf("%v", x)
	}
	if all[0]["out"] != "peer 192.0.2.2@wide" || all[4]["segments"] != 5. || all[3]["fault"] != "delay" || all[5]["lost"] != 3. {
		t.Errorf("%v", all)
	}
}

// A question that tapestry has answered, and the answer, which came from no port: flows count the one, not the other.
func TestWatchAnswers(t *testing.T) {
	answers := func(f *feed) {
		f.ports()
		f.packet(100, detail(vswitch.Answered, 0, 0, 0, -1))
		f.packet(100, func(p *pcapng.Packet) {
			detail(vswitch.Answered, 0, 0, 0, 0)(p)
			p.Flags = pcapng.Outbound
		})
		f.stats(2, 0)
	}
	r := tapestry(t, newCaptureDaemon(t, answers).args(t, "watch", "web")...)
	if lines := strings.Split(r.out, "\n"); r.code != exit.OK || !strings.HasSuffix(lines[0], "100 B  answered by tapestry") || !strings.HasSuffix(lines[1], "100 B  made by tapestry") {
		t.Errorf("exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
	r = tapestry(t, newCaptureDaemon(t, answers).args(t, "flows", "web", "--for", "10s", "--json")...)
	if !strings.Contains(r.out, `"answered": 1`) || strings.Contains(r.out, `"answered": 2`) {
		t.Errorf("exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
}
