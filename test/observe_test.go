package test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A record is one line of tapestry's log. A call of dockerd's makes two: "request", and "request done" or "request refused".
type record struct {
	Time     time.Time `json:"time"`
	Level    string    `json:"level"`
	Msg      string    `json:"msg"`
	Method   string    `json:"method"`
	Network  string    `json:"network"`
	Endpoint string    `json:"endpoint"`
	Body     string    `json:"body"`
	Err      any       `json:"err"`
	Used     *bool     `json:"used"` // of a host of the cluster
	line     string
}

// A mark is a moment in a host's logs.
type mark struct{ tapestry, dockerd int64 }

func (h *Host) mark() mark {
	h.awaitPluginLog() // who reads the log is told of an error
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(h.dir, name))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	if h.managed {
		return mark{size("dockerd.log"), size("dockerd.log")}
	}
	return mark{size("tapestry.log"), size("dockerd.log")}
}

// since are the complete lines of a log after an offset.
func (h *Host) since(t *testing.T, name string, offset int64) []string {
	t.Helper()
	if h.managed && name == "tapestry.log" {
		return h.pluginLog(t, offset)
	}
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text[offset:])) {
		if strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func (h *Host) tail(t *testing.T, name string) {
	t.Helper()
	lines := h.since(t, name, 0)
	t.Logf("%s of host %s:\n%s", name, h.name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
}

func (h *Host) records(t *testing.T, from mark) []record {
	t.Helper()
	var records []record
	for _, line := range h.since(t, "tapestry.log", from.tapestry) {
		r := record{line: line}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("tapestry's log has a line that is not a JSON object with text fields: %s: %v", line, err)
		}
		if strings.HasPrefix(r.Network, logMark) {
			continue
		}
		records = append(records, r)
	}
	return records
}

// requests are dockerd's calls since a mark, in order.
func (h *Host) requests(t *testing.T, from mark) []record {
	t.Helper()
	return slices.DeleteFunc(h.records(t, from), func(r record) bool { return r.Msg != "request" })
}

// methods are the names of dockerd's calls of the network driver since a mark, without those that only ask something, which depend on
// its version. (It greets the IPAM driver, which is at the same socket, together with the network driver.)
func (h *Host) methods(t *testing.T, from mark) string {
	t.Helper()
	var names []string
	for _, r := range h.requests(t, from) {
		if name := methodName(r); name != "EndpointOperInfo" && name != "GwAllocCheck" && !strings.HasPrefix(r.Method, "IpamDriver.") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func methodName(r record) string {
	return r.Method[strings.LastIndexAny(r.Method, "./")+1:]
}

// find is the first call of a method since a mark.
func (h *Host) find(t *testing.T, from mark, method string) record {
	t.Helper()
	for _, r := range h.requests(t, from) {
		if methodName(r) == method {
			return r
		}
	}
	t.Fatalf("no %s in the log since the mark: %q", method, h.methods(t, from))
	return record{}
}

// dockerdComplaints are lines that dockerd writes when a driver or its links misbehave.
const dockerdComplaints = `(?i)panic|fail(ed|ure) to (move|delete|set|remove).*(link|interface|endpoint|sandbox)|driver (failed|modified)|` +
	`error (deleting|leaving|on)|unable to (locate|connect to) plugin|plugin.*retry|remote: |bad response`

// quiet makes the test fail if from now on tapestry logs a warning or an error, or dockerd one of dockerdComplaints, which
// no expression in allow matches.
func (h *Host) quiet(t *testing.T, allow ...string) {
	t.Helper()
	from := h.mark()
	t.Cleanup(func() { h.checkLogs(t, from, allow...) })
}

func (h *Host) checkLogs(t *testing.T, from mark, allow ...string) {
	t.Helper()
	allowed := func(line string) bool {
		return slices.ContainsFunc(allow, func(expr string) bool { return regexp.MustCompile(expr).MatchString(line) })
	}
	for _, r := range h.records(t, from) {
		if (r.Level == "WARN" || r.Level == "ERROR") && !allowed(r.line) {
			t.Errorf("tapestry on %s logged: %s", h.name, r.line)
		}
	}
	complaint := regexp.MustCompile(dockerdComplaints)
	for _, line := range h.since(t, "dockerd.log", from.dockerd) {
		if _, plugin := pluginLine(line); plugin {
			continue // tapestry's, checked above
		}
		if complaint.MatchString(line) && !strings.Contains(line, "level=debug") && !allowed(line) {
			t.Errorf("dockerd on %s logged: %s", h.name, line)
		}
	}
}

// A snapshot is all that tapestry may leave behind on a host: links, tc rules, state files, open files, goroutines.
type snapshot map[string]string

// kernelObjects prints the host's links and qdiscs, and the filters of each link that has some: they do not name it.
const kernelObjects = `cd /sys/class/net; for d in *; do echo "link $d"; done
all=$(tc qdisc show); echo "$all"
for d in $(echo "$all" | sed -n 's/^qdisc \(ingress\|clsact\) .* dev \([^ ]*\) .*/\2/p'); do
	echo "filters of $d"; tc filter show dev $d ingress 2>/dev/null
done; true`

func (h *Host) snapshot(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{}
	of := ""
	for line := range strings.Lines(h.in(t, "sh", "-c", kernelObjects)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "filters of ") {
			of = line + ": "
			continue
		}
		s[of+line] = "there"
	}
	maps.Copy(s, h.state(t))
	files := map[string]int{}
	for link := range strings.Lines(h.in(t, "sh", "-c", `cd /proc/$1/fd && for f in *; do readlink $f; done; true`, "sh", h.daemonPID(t))) {
		name, _, _ := strings.Cut(strings.TrimSpace(link), ":[")
		files[name]++
	}
	for name, n := range files {
		s["open file "+name] = strconv.Itoa(n)
	}
	var status struct{ Goroutines int }
	if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &status); err != nil || status.Goroutines == 0 {
		t.Fatalf("status tells %d goroutines: %v", status.Goroutines, err)
	}
	s["goroutines"] = strconv.Itoa(status.Goroutines)
	return s
}

// state are the daemon's state files and their content.
func (h *Host) state(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{}
	dir := h.stateDir(t)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && entry.IsDir() {
			return nil // written whole and renamed: a file may vanish while we look
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && entry.Name() != "lock" { // it holds the daemon's pid
			s["state "+strings.TrimPrefix(path, dir)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *Host) daemonPID(t *testing.T) string {
	t.Helper()
	if h.managed {
		return h.plugin(t, "pid")
	}
	text, err := os.ReadFile(filepath.Join(h.dir, "tapestry.started"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// diff says what is new, gone or different in s, compared with before.
func (s snapshot) diff(before snapshot) error {
	var lines []string
	for key, value := range s {
		if old, ok := before[key]; !ok {
			lines = append(lines, "new: "+key)
		} else if old != value {
			lines = append(lines, fmt.Sprintf("changed: %s: %s, was %s", key, value, old))
		}
	}
	for key := range before {
		if _, ok := s[key]; !ok {
			lines = append(lines, "gone: "+key)
		}
	}
	if lines == nil {
		return nil
	}
	slices.Sort(lines)
	return fmt.Errorf("not as before:\n%s", strings.Join(lines, "\n"))
}

// audit waits until the host is as it was in a snapshot: the kernel and dockerd remove some things a little later.
func (h *Host) audit(t *testing.T, before snapshot) {
	t.Helper()
	testhost.Eventually(t, patience, func() error { return h.snapshot(t).diff(before) })
}

// A capture is a running tcpdump. What background has of it is its standard error.
type capture struct {
	*background
	frames testhost.Log
	ended  chan struct{}
}

// capture starts a tcpdump of the frames on a container's link ("" as container: the host's) that match a filter. Flags are
// further flags of tcpdump.
func (h *Host) capture(t *testing.T, container, link, filter string, flags ...string) *capture {
	t.Helper()
	args := append(append([]string{"tcpdump", "-n", "-e", "-l", "--immediate-mode", "-i", link}, flags...), filter)
	if container != "" {
		args = append([]string{"nsenter", "-n", "-t", h.init(t, container)}, args...)
	}
	c := &capture{background: &background{cmd: h.command(args...)}, ended: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.frames, &c.said
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		if !c.over() {
			c.signal(syscall.SIGINT)
		}
	})
	c.await(t, "listening on")
	return c
}

// over tells whether tcpdump has ended.
func (c *capture) over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// lines are the frames, and for some flags what they contain.
func (c *capture) lines() (all []string) {
	for line := range strings.Lines(c.frames.String()) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			all = append(all, line)
		}
	}
	return all
}

var tcpdumpCounts = regexp.MustCompile(`(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel`)

// end stops a capture and returns its lines. tcpdump does not read what still waits for it when it is interrupted, so before that
// end waits until nothing does: tcpdump replies to SIGUSR1 with its counts.
func (c *capture) end(t *testing.T) []string {
	t.Helper()
	counts := func() [][]string { return tcpdumpCounts.FindAllStringSubmatch(c.said.String(), -1) }
	for same := 0; same < 4 && !c.over(); { // without progress: the rest is not wanted, as with -Q
		asked := len(counts())
		c.signal(syscall.SIGUSR1)
		testhost.Until(t, "told by tcpdump what it has captured", func() bool { return len(counts()) > asked || c.over() })
		all := counts()
		if len(all) == asked {
			break
		}
		last := all[len(all)-1]
		captured, _ := strconv.Atoi(last[1])
		received, _ := strconv.Atoi(last[2])
		dropped, _ := strconv.Atoi(last[3])
		if captured+dropped >= received {
			break
		}
		if same++; asked == 0 || all[asked-1][1] != last[1] {
			same = 0
		}
	}
	if !c.over() {
		c.signal(syscall.SIGINT)
	}
	<-c.ended
	return c.lines()
}
