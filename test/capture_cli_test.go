package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// newWatched makes a node with containers to capture: web 10.77.0.11 and db 10.77.0.12 on mynet, and lone on other.
func newWatched(t *testing.T, name string, flags ...string) *Host {
	h := newNode(t, name, flags...)
	need(t, "tshark", "capinfos", "reordercap", "mergecap")
	h.network(t, "mynet", "--subnet", "10.77.0.0/24")
	h.network(t, "other", "--subnet", "10.78.0.0/24")
	h.run(t, "web", "mynet", "--ip", "10.77.0.11")
	h.run(t, "db", "mynet", "--ip", "10.77.0.12")
	h.run(t, "lone", "other", "--ip", "10.78.0.11")
	return h
}

const (
	dbAddress = "10.77.0.12"
	dbMAC     = "02:42:0a:4d:00:0c"
)

// pings sends n pings from a container, and checks that all are answered. Args are options of ping.
func (h *Host) pings(t *testing.T, container, to string, n int, args ...string) {
	t.Helper()
	h.exec(t, container, append(append([]string{"ping", "-n", "-q", "-c", fmt.Sprint(n), "-i", "0.01", "-W20"}, args...), to)...)
}

// TestCaptureCommands: tapestry capture, as people use it and as Wireshark's tools read it.
func TestCaptureCommands(t *testing.T) {
	h := newWatched(t, "commands")
	t.Run("targets", func(t *testing.T) { captureTargets(t, h) })
	t.Run("tshark reads a pipe", func(t *testing.T) { capturePipe(t, h) })
	t.Run("tshark connects to a listener", func(t *testing.T) { captureListen(t, h) })
	t.Run("extcap", func(t *testing.T) { captureExtcap(t, h) })
	t.Run("a container that is renamed", func(t *testing.T) { captureRenamed(t, h) })
	t.Run("a container that starts again", func(t *testing.T) { captureRestarted(t, h) })
	t.Run("a container that comes", func(t *testing.T) { captureComes(t, h) })
	t.Run("rotation", func(t *testing.T) { captureRotation(t, h) })
	t.Run("a full disk", func(t *testing.T) { captureFullDisk(t, h) })
	t.Run("strict", func(t *testing.T) { captureStrict(t, h) })
	t.Run("wrong words", func(t *testing.T) { captureWrong(t, h) })
	t.Run("two hundred leave nothing", func(t *testing.T) { captureLeaves(t, h) })
	t.Run("a group's members", func(t *testing.T) { captureGroup(t, h) })
}

func captureTargets(t *testing.T, h *Host) {
	h.quiet(t, "address conflict")
	from := h.mark()
	id := h.inspect(t, "web").NetworkSettings.Networks["mynet"].EndpointID
	takes := map[string]*captureCommand{
		"name":    h.startCapture(t, "name.pcapng", "web"),
		"network": h.startCapture(t, "network.pcapng", "network:mynet"),
		"id":      h.startCapture(t, "id.pcapng", id[:10]),
		"all":     h.startCapture(t, "all.pcapng", "all"),
		"classic": h.startCapture(t, "all.pcap"),
		"other":   h.startCapture(t, "other.pcapng", "network:other"),
		"filter":  h.startCapture(t, "filter.pcapng", "--", "icmp", "and", "host", "db"),
	}
	h.pings(t, "web", dbAddress, 5, "-s", "100", "-i", "1") // each answer before the next question
	h.spoof(t, "web", dbMAC, dbAddress)
	h.tryExec("lone", "arping", "-c1", "-w2", "-I", "eth0", "10.78.0.99")
	frames, pings := map[string]int{}, map[string][]string{}
	for name, k := range takes {
		frames[name] = k.end(t)
		if info, err := os.Stat(k.path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v: want a file for its owner only", name, info.Mode(), err)
		}
		dumped := tool(t, "sh", "-c", `tcpdump -n -r - <"$1" 2>/dev/null | wc -l`, "sh", k.path)
		if n := packetsIn(t, k.path); n != frames[name] || dumped != fmt.Sprint(n) || len(readFile(t, k.path).packets) != n {
			t.Errorf("%s: capinfos counts %d packets, tcpdump %s; it said %d", name, n, dumped, frames[name])
		}
		if text := tool(t, "capinfos", "-t", k.path); !strings.Contains(text, "nano") && strings.HasSuffix(k.path, ".pcap") {
			t.Errorf("%s: %s", name, text)
		}
		inOrder(t, k.path)
		pings[name] = sums(slices.DeleteFunc(readFile(t, k.path).packets, func(p pcapng.Packet) bool { return len(p.Data) != 142 }), 0)
	}
	for name, list := range pings {
		if name == "other" && len(list) != 0 || name != "other" && (len(list) != 10 || !slices.Equal(list, pings["all"])) {
			t.Errorf("%s: these pings: %v", name, list)
		}
	}
	if n := len(rows(t, takes["other"].path, "arp && frame.interface_name == lone", "frame.number")); n == 0 || n != frames["other"] {
		t.Errorf("of the other network %d of %d packets are lone's ARP", n, frames["other"])
	}
	// They end one after the other, and from 28 on dockerd announces addresses meanwhile: apart from ARP they have the same frames.
	talk := func(name string) []string {
		return sums(slices.DeleteFunc(readFile(t, takes[name].path).packets, func(p pcapng.Packet) bool { return p.Data[12] == 8 && p.Data[13] == 6 }), 0)
	}
	if frames["filter"] != 10 || !slices.Equal(talk("classic"), talk("all")) {
		t.Errorf("frames %v", frames)
	}

	seen, odd := map[string]bool{}, false
	for i, row := range rows(t, takes["name"].path, "icmp", "frame.interface_name", "frame.packet_flags_direction", "ip.src_host", "ip.dst_host",
		"frame.packet_id", "frame.time_epoch") {
		cells := strings.Split(row, "|")
		want := []string{"web|0x00000001|web|db", "db|0x00000001|db|web"}[i%2]
		if strings.Join(cells[:4], "|") != want || cells[4] == "" || seen[cells[4]] {
			t.Errorf("packet %d reads %s, want %s and an id of its own", i, row, want)
		}
		seen[cells[4]] = true
		odd = odd || !strings.HasSuffix(cells[5], "000")
	}
	if text := tool(t, "capinfos", "-A", takes["name"].path); !odd || !strings.Contains(text, "Time precision = nanoseconds (9)") {
		t.Errorf("no nanoseconds: %s", text)
	}
	for _, name := range []string{"name", "network"} {
		const dropped = `frame.comment contains "verdict=drop reason=spoofed"`
		if n := tshark(t, takes[name].path, dropped+` && frame.interface_name == "web" && eth.src == `+dbMAC, "frame.comment").counts; n[0] == 0 || n[0] != n[1] {
			t.Errorf("%s: %d spoofed frames with a comment, %d in all", name, n[0], n[1])
		}
	}
	if n := count(t, takes["classic"].path, "arp && eth.src == "+dbMAC+" && arp.src.proto_ipv4 == 10.77.0.11"); n == 0 {
		t.Error("the spoofed frame is not in the pcap file")
	}

	audited := 0
	for _, line := range h.since(t, "tapestry.log", from.tapestry) {
		for name, k := range takes {
			if strings.Contains(line, `"msg":"capture ended"`) && strings.Contains(line, k.path) {
				audited++
				for _, want := range []string{fmt.Sprintf(`"frames":%d,"lost":0,`, frames[name]), fmt.Sprintf(`"uid":0,"pid":%s,`, k.pid),
					`"command":"tapestry capture `, `"why":"stopped"`} {
					if !strings.Contains(line, want) {
						t.Errorf("%s: the log says %s, want %s", name, line, want)
					}
				}
			}
		}
	}
	if audited != len(takes) {
		t.Errorf("the log tells of %d captures, want %d", audited, len(takes))
	}
}

func captureRenamed(t *testing.T, h *Host) {
	h.quiet(t)
	k := h.startCapture(t, "renamed.pcapng", "web", "-f", "icmp")
	h.pings(t, "web", dbAddress, 2)
	h.docker(t, "rename", "web", "shop")
	defer h.docker(t, "rename", "shop", "web")
	h.pings(t, "shop", dbAddress, 2)
	// The new name is written as soon as Docker reports it.
	testhost.Eventually(t, patience, func() error {
		h.pings(t, "shop", dbAddress, 1)
		if text, err := os.ReadFile(k.path); err != nil || !strings.Contains(string(text), "shop") {
			return fmt.Errorf("no new name in the file: %v", err)
		}
		return nil
	})
	h.pings(t, "shop", dbAddress, 1) // behind the new name in the file
	n := k.end(t)
	if pings := rows(t, k.path, "icmp.type == 8", "ip.src_host"); n < 10 || len(pings) != n/2 || pings[len(pings)-1] != "shop" || pings[0] != "web" {
		t.Errorf("%d frames, from %v", n, pings)
	}
}

func captureRestarted(t *testing.T, h *Host) {
	h.quiet(t)
	k := h.startCapture(t, "restarted.pcapng", "db", "-f", "icmp")
	h.pings(t, "web", dbAddress, 2)
	h.docker(t, "restart", "-t", "0", "db")
	h.pings(t, "web", dbAddress, 2)
	n := k.end(t)
	answers := rows(t, k.path, "icmp.type == 0 && frame.interface_name == db", "frame.interface_id", "ip.src_host")
	if n != 8 || len(answers) != 4 || answers[0] != answers[1] || answers[2] != answers[3] || answers[0] == answers[2] {
		t.Errorf("%d frames, the answers are from %v: want two and two, of two interfaces", n, answers)
	}
	inOrder(t, k.path)
}

func captureComes(t *testing.T, h *Host) {
	h.quiet(t)
	all := h.startCapture(t, "all.pcapng", "all")
	takes := map[string]*captureCommand{"network": h.startCapture(t, "network.pcapng", "network:mynet"), "wait": h.startCapture(t, "wait.pcapng", "late", "--wait")}
	if code, said := h.exit(t, "capture", "late", "-w", filepath.Join(t.TempDir(), "x.pcapng")); code != 4 || !strings.Contains(said, "late") {
		t.Errorf("without --wait: exit code %d: %s", code, said)
	}
	h.run(t, "late", "mynet", "--ip", "10.77.0.40")
	h.pings(t, "late", dbAddress, 2)
	all.end(t)
	want := rows(t, all.path, `frame.interface_name == late`, "frame.packet_id", "frame.md5_hash", "eth.type", "frame.time_epoch")
	if len(want) < 3 || !strings.Contains(want[0], "|0x0806|") {
		t.Errorf("from late came %v: want its announcement first", want)
	}
	for name, k := range takes {
		k.end(t)
		got := rows(t, k.path, `frame.interface_name == late`, "frame.packet_id", "frame.md5_hash", "eth.type", "frame.time_epoch")
		// From 28 on dockerd announces a container's address three times, a second apart: a capture that ends later has more of that.
		if len(got) < len(want) || slices.ContainsFunc(got[len(want):], func(row string) bool { return !strings.Contains(row, "|0x0806|") }) {
			t.Errorf("%s: from late came\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			continue
		}
		for i := range want { // the times are each capture's own
			if got[i][:len(got[i])-20] != want[i][:len(want[i])-20] {
				t.Errorf("%s: frame %d of late is %s, want %s", name, i, got[i], want[i])
			}
		}
		inOrder(t, k.path)
	}
	n := tshark(t, takes["wait"].path, `frame.interface_name == web`, `icmp && frame.interface_name == db`).counts
	if n[0] != 0 {
		t.Errorf("web's %d frames are in late's file", n[0])
	}
	if n[1] != 2 {
		t.Errorf("%d of db's answers to late, want 2", n[1])
	}
}

func captureStrict(t *testing.T, h *Host) {
	h.quiet(t)
	k := h.startCapture(t, "strict.pcapng", "all", "-f", "icmp", "--strict", "--ring", "256KiB")
	k.signal(syscall.SIGSTOP)
	flood := h.exec(t, "web", "ping", "-n", "-q", "-f", "-c", "3000", "-W20", "-s", "1400", dbAddress)
	missed := lost(t, flood)
	for range 2 { // nsenter has stopped, too
		k.signal(syscall.SIGCONT)
		k.cmd.Process.Signal(syscall.SIGCONT)
	}
	// It reads what there is, and what comes later is not lost.
	h.pings(t, "web", dbAddress, 2)
	k.signal(syscall.SIGINT)
	code, said := k.exit(t)
	frames, lost := k.counts(t)
	want := 6004 - 2*missed // a flood may be too much for a queue on a busy machine
	if code != 3 || lost == 0 || frames+lost < want || frames+lost > 6004 || !strings.Contains(said, "lost") {
		t.Errorf("exit code %d, %d frames and %d lost, want %d to 6004: %s", code, frames, lost, want, said)
	}
	var told, dropped uint64
	c := readFile(t, k.path)
	for _, p := range c.packets {
		told += p.Drops
	}
	for _, s := range c.stats {
		dropped += s.Dropped
	}
	if len(c.packets) != frames || told == 0 || told > uint64(lost) || dropped != uint64(lost) {
		t.Errorf("the file has %d packets, they tell of %d lost ones, and its interfaces of %d; it said %d and %d", len(c.packets), told, dropped, frames, lost)
	}
	if code, said := h.exit(t, "capture", "all", "--ring", "64KiB", "-n", "1"); code != 2 || !strings.Contains(said, "256KiB") {
		t.Errorf("a ring that is too small: exit code %d: %s", code, said)
	}
}

func captureWrong(t *testing.T, h *Host) {
	h.quiet(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"capture", "wbe"}, 4, "did you mean web"},
		{[]string{"capture", "network:mynett"}, 4, "mynet"},
		{[]string{"capture", "peer:192.0.2.99"}, 4, "192.0.2.99"},
		{[]string{"capture", "web", "-f", "tcp prot 80"}, 2, "^"},
		{[]string{"capture", "web", "-n", "0"}, 2, "frames"},
		{[]string{"capture", "web", "-w", "/no/such/dir/x.pcapng"}, 1, "no such file"},
		{[]string{"watch", "web", "--", "host", "nobody"}, 2, "nobody"},
	} {
		if code, said := h.exit(t, c.args...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%v: exit code %d, want %d and %q: %s", c.args, code, c.code, c.says, said)
		}
	}
}

// captures are the captures that run.
func (h *Host) captures(t *testing.T) []captureCounts {
	t.Helper()
	return getJSON[[]captureCounts](t, h, "/v1/captures")
}

func captureLeaves(t *testing.T, h *Host) {
	h.quiet(t)
	h.pings(t, "web", dbAddress, 1)
	before := h.snapshot(t)
	load := h.background(t, "web", "ping", "-n", "-q", "-i", "0.002", dbAddress)
	h.in(t, "sh", "-ec", `mkdir /run/many; seq 40 | xargs -P 8 -I N tapestry capture web -n 1 -w /run/many/N.pcapng 2>/run/many/said`)
	if n := h.in(t, "sh", "-c", "capinfos -rTc /run/many/*.pcapng | cut -f2 | grep -cx 1"); n != "40" {
		t.Errorf("%s files hold one frame, want 40", n)
	}
	// What may be left is the daemon's, so the others need no command.
	request := fmt.Sprintf(`{"targets":{"endpoints":[%q]},"frames":1}`, h.inspect(t, "web").NetworkSettings.Networks["mynet"].EndpointID)
	for range 160 / 8 {
		var answers []*http.Response
		for range 8 {
			answers = append(answers, h.ask(t, "POST", "/v1/captures", request))
		}
		for _, answer := range answers {
			text, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if c := readText(t, "a capture by the API", text); err != nil || len(c.packets) != 1 {
				t.Errorf("a capture by the API has %d frames, want 1: %v", len(c.packets), err)
			}
		}
	}
	load.signal(syscall.SIGINT) // not nsenter, too: if that ends first nobody finds ping, which then pings for ever
	load.wait(t)
	h.audit(t, before)
}

func captureGroup(t *testing.T, h *Host) {
	h.quiet(t)
	h.in(t, "sh", "-ec", "echo 'watchers:x:4242:' >>/etc/group; mkdir /run/member; chown 4711 /run/member")
	h.flags = []string{"--api-group", "watchers"}
	h.stopDaemon(t, "TERM")
	h.startDaemon(t)
	from := h.mark()
	user := []string{"setpriv", "--reuid", "4711", "--regid", "4711"}
	member := h.background(t, "", append(user, "--groups", "4242", "tapestry", "capture", "all", "-n", "2", "-w", "/run/member/x.pcapng", "-f", "icmp")...)
	member.await(t, "capturing")
	h.pings(t, "web", dbAddress, 2)
	if code, said := member.exit(t); code != 0 {
		t.Errorf("a member: exit code %d: %s", code, said)
	}
	if got := h.in(t, "stat", "-c", "%u %a", "/run/member/x.pcapng"); got != "4711 600" {
		t.Errorf("its file is %s", got)
	}
	if log := strings.Join(h.since(t, "tapestry.log", from.tapestry), "\n"); !strings.Contains(log, `"uid":4711,"pid":`) {
		t.Errorf("the log does not say who it was: %s", log)
	}
	other := h.background(t, "", append(user, "--clear-groups", "tapestry", "capture", "all", "-n", "1")...)
	if code, said := other.exit(t); code != 5 || !strings.Contains(said, "no permission") || !strings.Contains(said, "group") {
		t.Errorf("a user without rights: exit code %d: %s", code, said)
	}
}
