package file

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/testhost"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).UnixNano()

// fill writes n packets of 100 bytes, ten a second, on two interfaces; each tenth has lost one before it.
func fill(t *testing.T, s *Set, n int) {
	t.Helper()
	for i := range 2 {
		if _, err := s.AddInterface(&pcapng.Interface{Name: fmt.Sprintf("port%d", i), LinkType: pcapng.Ethernet}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Names(pcapng.Names{{Addr: netip.MustParseAddr("10.0.0.1"), Name: "web"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Names(pcapng.Names{{Addr: netip.MustParseAddr("10.0.0.1"), Name: "db"}}); err != nil { // renamed
		t.Fatal(err)
	}
	for i := range n {
		p := pcapng.Packet{Interface: i % 2, Time: start + int64(i)*1e8, Data: bytes.Repeat([]byte{byte(i)}, 100), ID: uint64(i + 1), Queue: -1}
		if i%10 == 9 {
			p.Drops = 1
		}
		if err := s.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// read reads a file, which must be complete.
func read(t *testing.T, path string) (interfaces, names int, packets []pcapng.Packet, stats map[int]pcapng.Stats) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stats = map[int]pcapng.Stats{}
	for r := pcapng.NewReader(f); ; {
		b, err := r.Next()
		switch b := b.(type) {
		case *pcapng.Interface:
			interfaces++
		case pcapng.Names:
			names += len(b)
		case *pcapng.Packet:
			p := *b
			p.Data = bytes.Clone(b.Data)
			packets = append(packets, p)
		case *pcapng.Stats:
			stats[b.Interface] = *b
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

func TestOneFile(t *testing.T) {
	for _, name := range []string{"a.pcapng", "a.pcap"} {
		path := filepath.Join(t.TempDir(), name)
		s, err := Create(Options{Path: path, Pcap: name == "a.pcap", LinkType: pcapng.Ethernet})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, 100)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, packets, stats := read(t, path)
		if len(packets) != 100 {
			t.Errorf("%d packets", len(packets))
		}
		if name == "a.pcapng" && (stats[0].Delivered != 50 || stats[1].Dropped != 10 || stats[1].Accepted != 60 || stats[1].End != start+99e8) {
			t.Errorf("stats %+v", stats)
		}
		if i, _ := os.Stat(path); i.Mode() != 0o600 {
			t.Errorf("mode %v", i.Mode())
		}
		if s.Close() != nil {
			t.Error("a second Close fails")
		}
	}
}

func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		files int
	}{
		{"size", Options{MaxBytes: 5000}, 4},
		{"time", Options{Every: 2 * time.Second}, 5},
		{"both", Options{MaxBytes: 1 << 20, Every: 5 * time.Second}, 2},
		{"keep", Options{Every: 2 * time.Second, Keep: 3}, 3},
		{"pcap", Options{Every: 2 * time.Second, Pcap: true, LinkType: pcapng.Ethernet}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.o.Path, c.o.Begin = filepath.Join(dir, "db.pcapng"), time.Unix(0, start)
			s, err := Create(c.o)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s, 100)
			// The source's stats: 20 frames that the filter refused came to interface 0.
			if err := s.Statistics(&pcapng.Stats{Interface: 0, Start: start, End: start + 99e8, Received: 70, Accepted: 50, Delivered: 50}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			found, _ := filepath.Glob(filepath.Join(dir, "*"))
			if len(found) != c.files || strings.Join(found, " ") != strings.Join(s.Paths(), " ") {
				t.Fatalf("%d files, want %d: %v, told %v", len(found), c.files, found, s.Paths())
			}
			var all int
			var sum pcapng.Stats
			last := int64(0)
			for _, path := range found {
				if !regexp.MustCompile(`/db_\d{5}_\d{14}\.pcapng$`).MatchString(path) {
					t.Errorf("%s is no name of a file set", path)
				}
				interfaces, names, packets, stats := read(t, path)
				if path == found[0] && c.o.Keep == 0 {
					names-- // the first has both names of the address
				}
				if !c.o.Pcap && (interfaces != 2 || names != 1 || len(stats) != 2) {
					t.Errorf("%s has %d interfaces, %d names, stats %v", path, interfaces, names, stats)
				}
				if i, _ := os.Stat(path); c.o.MaxBytes > 0 && i.Size() > c.o.MaxBytes {
					t.Errorf("%s has %d bytes, want at most %d", path, i.Size(), c.o.MaxBytes)
				}
				for _, p := range packets {
					if p.Time <= last || c.o.Every > 0 && p.Time-packets[0].Time >= int64(c.o.Every) {
						t.Errorf("%s: packet of %d behind %d", path, p.Time-start, last-start)
					}
					last = p.Time
				}
				all += len(packets)
				for _, b := range stats {
					sum.Received += b.Received
					sum.Accepted += b.Accepted
					sum.Delivered += b.Delivered
					sum.Dropped += b.Dropped
				}
			}
			if c.o.Keep > 0 {
				if all != 60 {
					t.Errorf("%d packets are left, want 60", all)
				}
				return
			}
			if all != 100 || !c.o.Pcap && (sum.Received != 130 || sum.Accepted != 110 || sum.Delivered != 100 || sum.Dropped != 10) {
				t.Errorf("%d packets; the stats add up to %+v", all, sum)
			}
		})
	}
}

// The files of a set, joined by mergecap, are the capture.
func TestMerged(t *testing.T) {
	testhost.Tools(t, "mergecap", "tshark", "capinfos")
	dir := t.TempDir()
	write := func(o Options) []string {
		o.Begin = time.Unix(0, start)
		s, err := Create(o)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, 100)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return s.Paths()
	}
	run := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).Output()
		if err != nil {
			t.Fatalf("%s %v: %v, %s", name, args, err, out)
		}
		return string(out)
	}
	fields := func(path string) string {
		return run("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.packet_id", "-e", "eth.src")
	}
	whole := write(Options{Path: filepath.Join(dir, "whole.pcapng")})[0]
	parts := write(Options{Path: filepath.Join(dir, "part.pcapng"), MaxBytes: 5000})
	for _, p := range parts {
		if out := run("capinfos", "-cM", p); !strings.Contains(out, "Number of packets") {
			t.Errorf("capinfos says %s", out)
		}
	}
	merged := filepath.Join(dir, "merged.pcapng")
	run("mergecap", append([]string{"-w", merged}, parts...)...)
	if got, want := fields(merged), fields(whole); got != want || strings.Count(want, "\n") != 100 {
		t.Errorf("%d parts make\n%s\nwant\n%s", len(parts), got, want)
	}
}
