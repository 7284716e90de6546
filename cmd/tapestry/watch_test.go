package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// detail is what the daemon puts into a packet's verdict option (capture.ReadDetail).
func detail(v vswitch.Verdict, fault ether.Fault, kind ether.Kind, segment uint16, out int) func(*pcapng.Packet) {
	return func(p *pcapng.Packet) {
		o := uint32(out + 1)
		p.Verdict = []byte{0, byte(v), byte(fault), byte(kind), byte(segment), byte(segment >> 8), byte(o), byte(o >> 8), byte(o >> 16), byte(o >> 24)}
	}
}

func mixed(f *feed) {
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
	d := newCapturing(t, mixed)
	r := tapestry(t, d.args(t, "watch", "web")...)
	at := func(n int64) string { return time.Unix(0, feedStart+n*1e6).Format("15:04:05.000000") }
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
	if len(lines) != len(want) || r.code != exitFine {
		t.Fatalf("exit %d, %s\n%s", r.code, r.stderr, r.out)
	}
	for i, w := range want {
		head, tail, _ := strings.Cut(w, "|")
		if !strings.HasPrefix(lines[i], head) || !strings.HasSuffix(lines[i], tail) || strings.Contains(lines[i], "cut short") {
			t.Errorf("line %q, want %q", lines[i], w)
		}
	}
	summary := fmt.Sprintf(`3 frames lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)
6 frames, 5.5 kB, 3 lost, %s to %[1]s
verdicts   forwarded 3, drop 1, flooded 1
drops      spoofed 1
protocols  UDP 6
talkers    web → db  6 frames, 5.5 kB
`, time.Unix(0, feedStart).Format("15:04:05"))
	if r.stderr != summary {
		t.Errorf("summary\n%s\nwant\n%s", r.stderr, summary)
	}
	if a := d.asked[0]; !a.Detail || a.Snap != watchSnap || a.Annotate != "none" || a.Bytes != -1 || a.Seconds != -1 {
		t.Errorf("asked for %+v", a)
	}
	colour := tapestry(t, newCapturing(t, mixed).args(t, "watch", "--color", "always")...).out
	if !strings.Contains(colour, red) || strings.Count(colour, reset) < 3 {
		t.Errorf("no colour in %q", colour)
	}
	full := tapestry(t, newCapturing(t, mixed).args(t, "watch", "-v")...).out
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
	if !colours("auto", slave) || colours("auto", &bytes.Buffer{}) || colours("never", slave) || !colours("always", nil) {
		t.Error("colours where none belong, or none where they do")
	}
	t.Setenv("NO_COLOR", "1")
	if colours("auto", slave) {
		t.Error("NO_COLOR has no effect")
	}
}

// Every key that watch prints is documented, and those of its own that are documented are printed.
func TestWatchJSON(t *testing.T) {
	d := newCapturing(t, func(f *feed) {
		mixed(f)
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
		for _, k := range keysOf(v, "") {
			keys[k] = true
		}
		all = append(all, v)
	}
	if len(all) != 7 {
		t.Fatalf("%d objects: %s", len(all), r.stderr)
	}
	docs := documented(t)["watch"]
	for k := range keys {
		if !slices.Contains(docs, k) {
			t.Errorf("%s stands not in docs/json.md", k)
		}
	}
	for _, k := range docs {
		if own := !strings.Contains(k, ".") && !slices.Contains([]string{"arp", "icmp", "igmp", "app", "error"}, k); own && !keys[k] {
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

// recordedFile is a capture as the commands write it.
func recordedFile(t *testing.T, change func(f *feed)) (path string) {
	t.Helper()
	d := newCapturing(t, change)
	path = filepath.Join(t.TempDir(), "old.pcapng")
	if r := tapestry(t, d.args(t, "capture", "-w", path, "-s", "80")...); r.code != exitFine {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	return path
}

func commented(f *feed) {
	f.ports()
	for i := range 10 {
		f.packet(90+i, func(p *pcapng.Packet) {
			if i%5 == 4 {
				p.Comment, p.Drops = "verdict=drop reason=spoofed: its source address", 1
			}
		})
	}
	f.stats(12, 2)
}

func TestReadBack(t *testing.T) {
	old := recordedFile(t, commented)
	dir := t.TempDir()
	for _, c := range []struct {
		args    string
		packets int
		lost    uint64
		length  int
	}{
		{"", 10, 2, 80},
		{"-n 3", 3, 0, 80},
		{"-s 20", 10, 2, 20},
		{"--drops", 2, 2, 80},
		{"-f greater\x0095", 5, 1, 80}, // and the loss before the fifth is told with the sixth
		{"-f host\x00web\x00and\x00udp", 10, 2, 80},
		{"-f host\x00db\x00and\x00tcp", 0, 0, 0},
	} {
		part := filepath.Join(dir, "part.pcapng")
		var args []string
		for _, a := range strings.Fields(c.args) {
			args = append(args, strings.ReplaceAll(a, "\x00", " "))
		}
		r := tapestry(t, append([]string{"capture", "-r", old, "-w", part}, args...)...)
		if want := fmt.Sprintf("wrote %d into %s\n", c.packets, part); r.code != exitFine || !strings.HasSuffix(r.stderr, want) {
			t.Errorf("%s: exit %d, %s, want %s", c.args, r.code, r.stderr, want)
		}
		all := blocksOf(t, part)
		packets := pick[*pcapng.Packet](all)
		if len(packets) != c.packets || len(pick[*pcapng.Interface](all)) != 3 || len(pick[pcapng.Names](all)) != 1 {
			t.Errorf("%s: %d packets", c.args, len(packets))
		}
		lost := uint64(0)
		for _, p := range packets {
			lost += p.Drops
			if len(p.Data) != c.length || p.Len < 90 {
				t.Errorf("%s: %d of %d bytes", c.args, len(p.Data), p.Len)
			}
		}
		if c.args == "-f greater\x0095" {
			c.lost = 2
		}
		if lost != c.lost {
			t.Errorf("%s: %d lost, want %d", c.args, lost, c.lost)
		}
	}
	// A whole copy is the same but for who wrote it.
	again := filepath.Join(dir, "again.pcapng")
	if r := tapestry(t, "capture", "-r", old, "-w", again); r.code != exitFine {
		t.Fatal(r.stderr)
	}
	a, b := blocksOf(t, old), blocksOf(t, again)
	if x, y := fmt.Sprintf("%+v", pick[*pcapng.Packet](a)[3]), fmt.Sprintf("%+v", pick[*pcapng.Packet](b)[3]); x != y {
		t.Errorf("%s\n%s", x, y)
	}
	if x, y := *pick[*pcapng.Interface](a)[0], *pick[*pcapng.Interface](b)[0]; fmt.Sprint(x) != fmt.Sprint(y) {
		t.Errorf("%+v\n%+v", x, y)
	}
	if x := pick[*pcapng.Stats](b)[0]; x.Received != 12 || x.Dropped != 2 {
		t.Errorf("%+v", x)
	}
	// As text: with names, verdicts, and no word about cuts that were asked for.
	r := tapestry(t, "watch", "-r", old)
	if r.code != exitFine || strings.Count(r.out, "web → db") != 10 || strings.Count(r.out, "DROP spoofed: its source") != 2 || strings.Contains(r.out, "cut short at") {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.stderr)
	}
	var in, out, stderr bytes.Buffer
	text, _ := os.ReadFile(old)
	in.Write(text)
	root := newRoot()
	root.SetArgs([]string{"watch", "-r", "-", "--json", "-n", "2"})
	root.SetIn(&in)
	root.SetOut(&out)
	root.SetErr(&stderr)
	if err := root.ExecuteContext(t.Context()); err != nil || strings.Count(out.String(), "\n") != 2 || !strings.Contains(out.String(), `"network":"wide"`) {
		t.Errorf("%v, %s, %s", err, out.String(), stderr.String())
	}
	// Rotated.
	set := filepath.Join(dir, "set.pcapng")
	if r := tapestry(t, "capture", "-r", old, "-w", set, "-C", "4096"); r.code != exitFine || !strings.Contains(r.stderr, set[:len(set)-7]) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	// As classic pcap.
	classic := filepath.Join(dir, "c.pcap")
	if r := tapestry(t, "capture", "-r", old, "-w", classic); r.code != exitFine {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if out := tool(t, "tcpdump", "-nr", classic); strings.Count(out, "UDP") != 10 {
		t.Errorf("tcpdump reads %s", out)
	}
}

func TestReadBackErrors(t *testing.T) {
	old := recordedFile(t, commented)
	text, _ := os.ReadFile(old)
	dir := t.TempDir()
	cut, letter := filepath.Join(dir, "cut.pcapng"), filepath.Join(dir, "letter")
	_ = os.WriteFile(cut, text[:len(text)-150], 0o600)
	_ = os.WriteFile(letter, []byte("Dear Ada, "), 0o600)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"capture -r " + old + " -w " + old, "would be written while it is read", exitUsage},
		{"watch -r " + letter, "file begins with 44 65 61 72, want", exitNo},
		{"watch -r " + filepath.Join(dir, "none"), "no such file", exitNo},
		{"watch -r " + dir, "is a directory", exitNo},
		{"watch -r " + old + " -f host\x00nobody", "the filter cannot be read:\nhost nobody\n", exitUsage},
		{"capture -r " + cut + " -w " + filepath.Join(dir, "mended.pcapng"), "what comes before was read", exitNo},
	} {
		var args []string
		for _, a := range strings.Fields(c.args) {
			args = append(args, strings.ReplaceAll(a, "\x00", " "))
		}
		if r := tapestry(t, args...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.args, r.code, r.stderr, c.want)
		}
	}
	if after, _ := os.ReadFile(old); !bytes.Equal(after, text) {
		t.Error("the file that was read has changed")
	}
	if n := len(pick[*pcapng.Packet](blocksOf(t, filepath.Join(dir, "mended.pcapng")))); n == 0 {
		t.Error("nothing was saved of a file that is cut off")
	}
}

// Bytes that gopacket, or anything of ours, could stumble over end no watch, and no text of theirs reaches a terminal.
func TestWatchHostile(t *testing.T) {
	d := newCapturing(t, func(f *feed) {
		f.ports()
		for n := range 60 { // IPv6 with extension headers, and DNS, cut off everywhere
			f.packet(60, func(p *pcapng.Packet) {
				copy(p.Data[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0xff, 0xff, 0, 64})
				p.Data, p.Len = p.Data[:n], 60
				p.Comment = "\x1b[2J verdict"
			})
			f.packet(100, func(p *pcapng.Packet) { p.Data[37], p.Data[36] = 53, 0; p.Data = p.Data[:42+n%58]; p.Len = 100 })
		}
	})
	r := tapestry(t, d.args(t, "watch", "-v")...)
	if r.code != exitFine || strings.Count(r.out, ":") < 120 || strings.Contains(r.out, "\x1b") {
		t.Errorf("exit %d, %s\n%q", r.code, r.stderr, r.out)
	}
}

func TestLabels(t *testing.T) {
	l := &labels{who: &names{docker: &docker{containers: map[string]string{webID: "web"}}}}
	if l.of(0) != "" || l.of(-1) != "" {
		t.Error("what is not there has a name")
	}
	l.add(&pcapng.Interface{Name: webID, Description: "port=1 kind=container network=" + wideID + " vni=80 link=x view=outer: rebuilt"})
	l.add(&pcapng.Interface{Name: otherID, Description: "port=2 kind=container network=" + wideID + " vni=80"})
	l.add(&pcapng.Interface{Name: "eth0", Description: "of somebody else"})
	for i, want := range []string{"web (outer)", "80cc33333333", "eth0"} {
		if got := l.of(i); got != want {
			t.Errorf("%d is %q, want %q", i, got, want)
		}
	}
	if got := l.told(0).Description; got != "port=1 kind=container network=aaaa11111111 vni=80 link=x endpoint=9b1d44444444 view=outer: rebuilt" {
		t.Error(got)
	}
	told := l.told(0)
	if p, ok := capture.ReadPort(&told); !ok || !p.Outer || p.VNI != 80 {
		t.Errorf("%+v, %v", p, ok)
	}
	if got := l.comment("verdict=forwarded out=" + webID); got != "verdict=forwarded out=web" {
		t.Error(got)
	}
}
