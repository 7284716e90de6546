package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// recordedFile is a capture as the commands write it.
func recordedFile(t *testing.T, change func(f *feed)) (path string) {
	t.Helper()
	d := newCaptureDaemon(t, change)
	path = filepath.Join(t.TempDir(), "old.pcapng")
	if r := tapestry(t, d.args(t, "capture", "-w", path, "-s", "80")...); r.code != exit.OK {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	return path
}

func commentedPackets(f *feed) {
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
	old := recordedFile(t, commentedPackets)
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
		if want := fmt.Sprintf("wrote %d into %s\n", c.packets, part); r.code != exit.OK || !strings.HasSuffix(r.stderr, want) {
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
	if r := tapestry(t, "capture", "-r", old, "-w", again); r.code != exit.OK {
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
	if r.code != exit.OK || strings.Count(r.out, "web → db") != 10 || strings.Count(r.out, "DROP spoofed: its source") != 2 || strings.Contains(r.out, "cut short at") {
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
	if r := tapestry(t, "capture", "-r", old, "-w", set, "-C", "4096"); r.code != exit.OK || !strings.Contains(r.stderr, set[:len(set)-7]) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	// As classic pcap.
	classic := filepath.Join(dir, "c.pcap")
	if r := tapestry(t, "capture", "-r", old, "-w", classic); r.code != exit.OK {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if out := testhost.Output(t, "tcpdump", "-nr", classic); strings.Count(out, "UDP") != 10 {
		t.Errorf("tcpdump reads %s", out)
	}
}

func TestReadBackErrors(t *testing.T) {
	old := recordedFile(t, commentedPackets)
	text, _ := os.ReadFile(old)
	dir := t.TempDir()
	cut, letter := filepath.Join(dir, "cut.pcapng"), filepath.Join(dir, "letter")
	_ = os.WriteFile(cut, text[:len(text)-150], 0o600)
	_ = os.WriteFile(letter, []byte("Dear Ada, "), 0o600)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"capture -r " + old + " -w " + old, "would be written while it is read", exit.Usage},
		{"watch -r " + letter, "file begins with 44 65 61 72, want", exit.Failure},
		{"watch -r " + filepath.Join(dir, "none"), "no such file", exit.Failure},
		{"watch -r " + dir, "is a directory", exit.Failure},
		{"watch -r " + old + " -f host\x00nobody", "the filter cannot be read:\nhost nobody\n", exit.Usage},
		{"capture -r " + cut + " -w " + filepath.Join(dir, "repaired.pcapng"), "; before that 10 frames could be read", exit.Failure},
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
	if n := len(pick[*pcapng.Packet](blocksOf(t, filepath.Join(dir, "repaired.pcapng")))); n == 0 {
		t.Error("nothing was saved of a file that is cut off")
	}
}
