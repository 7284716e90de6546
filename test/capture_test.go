package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// ask sends a request to the host's tapestry daemon and returns the reply.
func (h *Host) ask(t *testing.T, method, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, "http://tapestry"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := h.client("/run/tapestry/tapestry.sock").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		t.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return answer
}

// A recording is a capture by the API, written into a file.
type recording struct {
	h    *Host
	id   string
	path string
	done chan error
}

// record starts a recording; request is the body of POST /v1/captures.
func (h *Host) record(t *testing.T, name, request string) *recording {
	t.Helper()
	answer := h.ask(t, "POST", "/v1/captures", request)
	r := &recording{h: h, id: answer.Header.Get("X-Capture-Id"), path: filepath.Join(t.TempDir(), name+".pcapng"), done: make(chan error, 1)}
	f, err := os.Create(r.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := io.Copy(f, answer.Body)
		answer.Body.Close()
		f.Close()
		r.done <- err
	}()
	return r
}

type captureCounts struct {
	Seen, Filtered, Accepted, Delivered, Dropped, Waiting, Packets uint64
	State, ID                                                      string
}

// end stops the capture and returns its counts, which must balance.
func (r *recording) end(t *testing.T) (b captureCounts) {
	t.Helper()
	r.h.ask(t, "DELETE", "/v1/captures/"+r.id, "").Body.Close()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	answer := r.h.ask(t, "GET", "/v1/captures/"+r.id, "")
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Seen != b.Filtered+b.Accepted || b.Accepted != b.Delivered+b.Dropped || b.Waiting != 0 {
		t.Errorf("the counts do not balance: %+v", b)
	}
	return b
}

// tool runs a program that reads captures, and returns what it prints.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(testhost.Output(t, args...))
}

// count is the number of packets of a file that match a display filter, with all checksums checked.
func count(t *testing.T, path, display string) int {
	t.Helper()
	out := tool(t, "tshark", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
		"-Y", display, "-T", "fields", "-e", "frame.number")
	return len(strings.Fields(out))
}

// A reading is what one run of tshark, which takes longer to start than to read these files, says of a capture of iperf3.
type reading struct {
	counts []int  // of packets that match each filter
	stream string // the bytes of the second TCP stream, iperf3's data, in both directions
}

// tshark counts a file's packets that match display filters, with all checksums checked. Filters have no comma.
func tshark(t *testing.T, path string, filters ...string) (r reading) {
	t.Helper()
	args := []string{"tshark", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
		"-q", "-z", "io,stat,0," + strings.Join(filters, ","), "-z", "follow,tcp,raw,1"}
	var there, back strings.Builder
	for line := range strings.Lines(tool(t, args...)) {
		line = strings.TrimRight(line, "\n")
		rest, replied := strings.CutPrefix(line, "\t")
		switch {
		case strings.Contains(line, "<>"): // | interval | frames | bytes | frames | bytes |…
			for i, cell := range strings.Split(strings.Trim(line, "| "), "|")[1:] {
				if n, err := strconv.Atoi(strings.TrimSpace(cell)); err != nil {
					t.Fatalf("tshark counts %s", line)
				} else if i%2 == 0 {
					r.counts = append(r.counts, n)
				}
			}
		case replied:
			back.WriteString(rest)
		case strings.Trim(line, "0123456789abcdef") == "":
			there.WriteString(line)
		}
	}
	if len(r.counts) != len(filters) {
		t.Fatalf("tshark counts %v for %q", r.counts, filters)
	}
	r.stream = fmt.Sprintf("%d bytes %x there, %d bytes %x back", there.Len()/2, sha256.Sum256([]byte(there.String())), back.Len()/2, sha256.Sum256([]byte(back.String())))
	return r
}

const badSums = "tcp.checksum.status==0 || udp.checksum.status==0 || ip.checksum.status==0"

// flags is what tshark's analysis of TCP may find wrong with iperf3's data, which is the second stream. (The control connection
// sends single bytes, which look like keep-alives.) Full windows are not wrong: they depend on the receiver.
const flags = "tcp.stream==1 && tcp.analysis.flags && !tcp.analysis.window_update && !tcp.analysis.zero_window && !tcp.analysis.window_full"

// TestCaptureTruth: captures on two hosts, checked with tshark and reordercap.
func TestCaptureTruth(t *testing.T) {
	p := newPair(t, "modes", "192.0.2.1", "192.0.2.2", 50)
	need(t, "tshark", "capinfos", "reordercap")
	p.a.run(t, "green", "wide", "--ip", "10.80.1.20", "--ip6", "fd00:80::120")
	t.Run("views of what travels", p.captureViews)
	t.Run("under load", p.captureLoad)
	t.Run("nested VXLAN", p.captureNested)
}

// captureLoad captures between two containers of one host and through the tunnel.
func (p *pair) captureLoad(t *testing.T) {
	for _, way := range []struct {
		name, client string
		from         *Host
	}{{"one host", "green", p.a}, {"tunnel", "blue", p.b}} {
		for _, load := range [][]string{
			{"-c", "10.80.1.10", "-n", "5M"}, {"-6", "-c", "fd00:80::10", "-n", "5M"},
			{"-c", "10.80.1.10", "-n", "2M", "-u", "-b", "300M", "-l", "8000"}, {"-6", "-c", "fd00:80::10", "-n", "2M", "-u", "-b", "300M", "-l", "1200"},
		} {
			t.Run(way.name+" "+strings.Join(load, " "), func(t *testing.T) {
				p.a.quiet(t)
				// On a busy machine copies are lost, which the counts show, and TCP itself retransmits now and then.
				// A capture that loses frames without counting them, or puts them into a wrong order, does so every time.
				var odd string
				for range 10 {
					if odd = p.compareModes(t, way.from, way.client, load); odd == "" || t.Failed() {
						return
					}
					t.Log(odd)
				}
				t.Errorf("ten times:\n%s", odd)
			})
		}
	}
}

var retransmitted = regexp.MustCompile(`\s(\d+)\s+sender`) // by TCP, in iperf3's sum

// compareModes captures one run of iperf3 towards red in all modes, and compares the files with each other and with the counts. odd is what
// makes the run inconclusive: copies that were lost, segments that were sent twice, packets that tshark flags; "": the run is good.
func (p *pair) compareModes(t *testing.T, from *Host, client string, load []string) (odd string) {
	t.Helper()
	modes := map[string]*recording{}
	for _, mode := range []string{"fix", "segment", "raw"} {
		modes[mode] = p.a.record(t, mode, fmt.Sprintf(`{"offload":%q,"bytes":-1,"ring":268435456}`, mode))
	}
	said := measure(t, p.a, "red", from, client, load...)
	if m := retransmitted.FindStringSubmatch(said); m != nil && m[1] != "0" { // tshark would flag that, after a long start
		for _, r := range modes {
			r.end(t)
		}
		return "TCP retransmitted " + m[1] + " segments"
	}
	tcp := !strings.Contains(strings.Join(load, " "), "-u")
	var streams []string
	for _, mode := range []string{"fix", "segment", "raw"} {
		r := modes[mode]
		b := r.end(t)
		if b.Delivered == 0 {
			t.Fatalf("%s: %+v", mode, b)
		}
		if b.Dropped != 0 {
			odd += fmt.Sprintf("%s: %d copies were lost\n", mode, b.Dropped)
		}
		packets := packetsIn(t, r.path)
		if uint64(packets) != b.Packets || mode != "segment" && b.Packets != b.Delivered {
			t.Errorf("%s: capinfos counts %d packets, the counts are %+v", mode, packets, b)
		}
		said := tshark(t, r.path, badSums, "frame.len > 1464", flags)
		if bad := said.counts[0]; mode == "raw" && bad == 0 || mode != "raw" && bad != 0 {
			t.Errorf("%s: %d of %d packets with a bad checksum", mode, bad, packets)
		}
		if out := tool(t, "reordercap", "-n", r.path, os.DevNull); !strings.Contains(out, " 0 out of order") {
			t.Errorf("%s: %s", mode, out)
		}
		if long := said.counts[1]; mode == "segment" && long != 0 {
			t.Errorf("%d segments are longer than MTU and header", long)
		}
		if tcp && mode != "raw" {
			if n := said.counts[2]; n != 0 {
				odd += fmt.Sprintf("%s: tshark flags %d packets: %s\n", mode, n, strings.Join(rows(t, r.path, flags, "frame.number",
					"frame.interface_name", "tcp.srcport", "tcp.seq", "tcp.len", "_ws.expert.message"), "\n"))
			}
			streams = append(streams, said.stream)
		}
	}
	if tcp && (len(streams) != 2 || streams[0] != streams[1]) {
		odd += fmt.Sprintf("the TCP streams of fix and segment differ: %q\n", streams)
	}
	return odd
}

// Ten gigabytes with a reader that reads and one that does not: the number of lost copies is known exactly, and the number of
// delivered ones is what tshark counts.
func TestCaptureCounts(t *testing.T) {
	h := newNode(t, "tengig")
	need(t, "tshark")
	h.network(t, "big", "--subnet", "10.82.0.0/24")
	h.run(t, "one", "big", "--ip", "10.82.0.11")
	h.run(t, "two", "big", "--ip", "10.82.0.12")
	h.quiet(t)
	stuck := h.ask(t, "POST", "/v1/captures", `{"bytes":-1}`)
	defer stuck.Body.Close()
	reads := h.record(t, "reads", `{"filter":{"expr":"tcp and greater 100"},"snap":128,"bytes":-1}`)
	measure(t, h, "one", h, "two", "-c", "10.82.0.11", "-n", "10G")
	b := reads.end(t)
	if b.Filtered == 0 || b.Accepted < 100_000 {
		t.Errorf("counts of ten gigabytes: %+v", b)
	}
	if n := count(t, reads.path, "tcp"); uint64(n) != b.Delivered {
		t.Errorf("tshark counts %d, the counts are %+v", n, b)
	}
	t.Logf("the one that reads: %+v", b)
	// Each packet has the number of frames that were lost before it, each interface the sum.
	var told, lost uint64
	for _, word := range strings.Fields(tool(t, "tshark", "-r", reads.path, "-Y", "frame.drop_count", "-T", "fields", "-e", "frame.drop_count")) {
		n, err := strconv.ParseUint(word, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		told += n
	}
	if told > b.Dropped {
		t.Errorf("packets report %d lost frames, the counts %d", told, b.Dropped)
	}
	answer := h.ask(t, "GET", "/v1/captures/"+stuck.Header.Get("X-Capture-Id"), "")
	defer answer.Body.Close()
	var s captureCounts
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	lost = s.Dropped
	if s.Filtered != 0 || s.Seen != s.Accepted || s.Accepted != s.Delivered+s.Dropped+s.Waiting || lost == 0 {
		t.Errorf("counts of the one that is stuck: %+v", s)
	}
	t.Logf("the one that is stuck: %+v", s)
}
