package pcapng

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// run returns what a program prints on its standard output and on the other one.
func run(name string, args ...string) (out, errs string, err error) {
	cmd := exec.Command(name, args...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	err = cmd.Run()
	return o.String(), e.String(), err
}

// lines runs a program that must succeed, and returns its lines.
func lines(t *testing.T, name string, args ...string) []string {
	t.Helper()
	out, errs, err := run(name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, errs)
	}
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

func save(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	testhost.Must(t, os.WriteFile(path, b, 0o600))
	return path
}

// tsharkFields are what tshark shows of a packet without a plugin.
var tsharkFields = []string{"frame.interface_name", "frame.interface_description", "frame.packet_id",
	"frame.drop_count", "frame.verdict.hw",
	"frame.interface_queue", "frame.packet_flags_direction", "frame.packet_flags_reception_type", "frame.time_epoch",
	"frame.len", "frame.cap_len",
	"frame.comment", "ip.src_host"}

func TestTshark(t *testing.T) {
	testhost.Tools(t, "tshark")
	section, all := sample()
	f, _ := file(t, section, all...)
	args := []string{"-r", save(t, "f.pcapng", f), "-N", "n", "-T", "fields", "-E", "separator=|"}
	for _, name := range tsharkFields {
		args = append(args, "-e", name)
	}
	got := lines(t, "tshark", args...)
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], "0x0000000", "") // the direction, in some versions
	}
	want := []string{
		"web|container web on mynet|101||01|0|1|1|1700000000.123456789|43|43||web.mynet",
		"web|container web on mynet||7|||2|0|1700000000.123456790|9000|44||web.mynet",
		"dns||18446744073709551615|||3|||1700000000.123456791|45|45|verdict=drop\\nreason=mtu é|web.mynet",
		"dns||101|18446744073709551615|02|1|1|0|1700000001.123456789|46|46||web.mynet",
	}
	compare(t, got, want)
}

// compare holds lines against each other.
func compare(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d lines\n%s, want %d", len(got), strings.Join(got, "\n"), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
}

func TestCapinfos(t *testing.T) {
	testhost.Tools(t, "capinfos")
	section, all := sample()
	f, _ := file(t, section, all...)
	out := strings.Join(lines(t, "capinfos", save(t, "f.pcapng", f)), "\n")
	for _, want := range []string{"Number of packets:   4", "Strict time order:   True",
		"Number of interfaces in file: 2", "nanoseconds (9)",
		"tapestry 1.0", "host=node1 nets=α,β", "Name = web", "Description = container web on mynet",
		"Filter string = udp port 2000",
		"Name = dns", "Number of stat entries = 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, out)
		}
	}
}

func TestTcpdump(t *testing.T) {
	testhost.Tools(t, "tcpdump")
	section, all := sample()
	f, _ := file(t, section, all...)
	var classic bytes.Buffer
	w := NewPcapWriter(&classic, Ethernet, 1500)
	put(t, w, all...)
	testhost.Must(t, w.Flush())
	for name, b := range map[string][]byte{"f.pcapng": f, "f.pcap": classic.Bytes()} {
		var want []string
		for i, at := range []string{"1700000000.123456789", "1700000000.123456790", "1700000000.123456791",
			"1700000001.123456789"} {
			want = append(want, fmt.Sprintf("%s IP 10.77.0.2.1000 > 10.77.0.3.2000: UDP, length %d", at, i+1))
		}
		compare(t, lines(t, "tcpdump", "-nn", "-tt", "--time-stamp-precision=nano", "-r", save(t, name, b)), want)
	}
}

// gopacket reads the same packets from both kinds of files.
func TestGopacket(t *testing.T) {
	section, all := sample()
	f, _ := file(t, section, all...)
	r, err := pcapgo.NewNgReader(bytes.NewReader(f), pcapgo.DefaultNgReaderOptions)
	testhost.Must(t, err)
	for _, b := range all {
		want, ok := b.(*Packet)
		if !ok {
			continue
		}
		data, ci, err := r.ReadPacketData()
		testhost.Must(t, err)
		if !bytes.Equal(data, want.Data) || ci.Length != want.Len || ci.InterfaceIndex != want.Interface ||
			ci.Timestamp.UnixNano() != want.Time {
			t.Errorf("gopacket reads %+v, want %+v", ci, want)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Error("gopacket reads on:", err)
	}
	i, err := r.Interface(0)
	testhost.Must(t, err)
	stats := i.Statistics
	if i.Name != "web" || i.Filter != "udp port 2000" || stats.PacketsReceived != 10 || stats.PacketsDropped != 7 ||
		!stats.StartTime.Equal(time.Unix(0, start)) || !stats.EndTime.Equal(time.Unix(0, start+2e9)) {
		t.Errorf("gopacket reads the interface %+v", i)
	}
	var classic bytes.Buffer
	w := NewPcapWriter(&classic, Ethernet, 1500)
	put(t, w, all...)
	testhost.Must(t, w.Flush())
	c, err := pcapgo.NewReader(&classic)
	testhost.Must(t, err)
	for _, b := range all {
		if want, ok := b.(*Packet); ok {
			data, ci, err := c.ReadPacketData()
			testhost.Must(t, err)
			if !bytes.Equal(data, want.Data) || ci.Length != want.Len || ci.Timestamp.UnixNano() != want.Time {
				t.Errorf("gopacket reads %+v of pcap, want %+v", ci, want)
			}
		}
	}
}

// Texts of any bytes and of the longest kind, and 1000 interfaces and names.
func TestTsharkExtremes(t *testing.T) {
	testhost.Tools(t, "tshark")
	section, all := sample()
	long := strings.Repeat("é", 40_000)
	more := []Block{&Packet{Data: udp(0), Queue: -1, Comment: "a\x00\xffz"},
		&Packet{Data: udp(0), Queue: -1, Comment: long},
		&Packet{Data: nil, Len: 60, Queue: -1, Verdict: []byte{0}}}
	for i := range 1000 {
		more = append(more, &Interface{Name: fmt.Sprint("c", i), SnapLen: 1500, LinkType: Ethernet},
			&Packet{Interface: 2 + i, Data: udp(0), Queue: -1, Flags: 0xfff})
	}
	f, _ := file(t, section, slices.Concat(all, more)...)
	got := lines(t, "tshark", "-r", save(t, "f.pcapng", f), "-T", "fields", "-e", "frame.interface_name", "-e",
		"frame.comment")[4:]
	want := []string{"web\ta\ufffd\ufffdz", "web\t" + long[:65534], "web\t"}
	for i := range 1000 {
		want = append(want, fmt.Sprint("c", i, "\t"))
	}
	compare(t, got, want)
}

// A file cut in a packet is read by others as by us: up to its last whole block. capinfos reads as tshark does, and starts in a
// tenth of the time.
func TestToolsCut(t *testing.T) {
	testhost.Tools(t, "tshark", "capinfos", "tcpdump")
	section, all := sample()
	f, ends := file(t, section, all[:8]...)
	last := ends[len(ends)-2] // where the fourth packet begins
	for _, n := range []int{last + 1, last + 4, last + 11, last + 28, last + 60, len(f) - 1} {
		path := save(t, "f.pcapng", f[:n])
		programs := [][]string{{"tcpdump", "-n", "-r", path}}
		if n == len(f)-1 {
			programs = append(programs, []string{"tshark", "-r", path, "-n"})
		}
		for _, args := range programs {
			out, errs, err := run(args[0], args[1:]...)
			if strings.Count(out, "\n") != 3 || err == nil {
				t.Errorf("%s of %d bytes of %d: %v, %s\n%swant 3 packets and an error", args[0], n, len(f), err, errs, out)
			}
		}
		if out, errs, err := run("capinfos", "-rTc", path); strings.TrimSpace(out) != path+"\t3" || err == nil {
			t.Errorf("capinfos of %d bytes of %d: %v, %s\n%swant 3 packets and an error", n, len(f), err, errs, out)
		}
	}
	whole := save(t, "f.pcapng", f[:last])
	if n := len(lines(t, "tshark", "-r", whole, "-n")); n != 3 {
		t.Errorf("tshark reads %d packets of a file cut between blocks, want 3", n)
	}
}

// What others write is read: editcap's pcap files of either resolution, and its pcapng; without a verdict, see Packet.
func TestEditcap(t *testing.T) {
	testhost.Tools(t, "editcap")
	section, all := sample()
	for _, b := range all {
		if p, ok := b.(*Packet); ok {
			p.Verdict = nil
		}
	}
	f, _ := file(t, section, all...)
	in := save(t, "f.pcapng", f)
	for _, kind := range []string{"pcap", "nsecpcap", "pcapng"} {
		path := filepath.Join(t.TempDir(), "out")
		lines(t, "editcap", "-F", kind, in, path)
		b, err := os.Open(path)
		testhost.Must(t, err)
		defer b.Close()
		got, err := blocks(b)
		testhost.Must(t, err)
		got = slices.DeleteFunc(got, func(b Block) bool { _, ok := b.(*Packet); return !ok })
		var want []*Packet
		for _, b := range all {
			if p, ok := b.(*Packet); ok {
				want = append(want, p)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d packets, want %d", kind, len(got), len(want))
		}
		for i, w := range want {
			g, unit := got[i].(*Packet), int64(1)
			if kind == "pcap" {
				unit = 1000
			}
			if !bytes.Equal(g.Data, w.Data) || g.Len != w.Len || g.Time != w.Time/unit*unit {
				t.Errorf("%s: packet %d is %+v, want %+v", kind, i, g, w)
			}
			if kind == "pcapng" && (g.Interface != w.Interface || g.ID != w.ID || g.Drops != w.Drops || g.Queue != w.Queue ||
				g.Comment != w.Comment) {
				t.Errorf("%s: packet %d is %+v, want %+v", kind, i, g, w)
			}
		}
	}
}
