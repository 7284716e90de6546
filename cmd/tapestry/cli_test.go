package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// trimmed takes away the blanks that end a row, which an editor would not keep in this file.
func trimmed(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestTables(t *testing.T) {
	socket := fake.Daemon(t, fake.NewFabric())
	named, unnamed := fake.Docker(t), "unix://"+filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		name, Engine, args, want string
	}{
		{"networks", named, "networks", `
NETWORK       ID            VNI  MTU   ATTACH  ENDPOINTS  ADDRESSES  RX    FORWARDED  FLOODED  ANSWERED  DROPS      STATE
80cc33333333  80cc33333333  90   1500  veth    0          0          0     0          0        0         -          down: UDP port 4789 is taken
wide          aaaa11111111  80   1450  veth    1          2          1043  1000       38       2         spoofed 3  up
mynet         aaab22222222  -    1500  veth    0          0          0     0          0        0         -          up`},
		{"ports with names", named, "ports wide", `
NETWORK  PORT            KIND       STATE           MAC                ADDRESSES     MTU   RX    RX SIZE  TX  TX SIZE  DROPS
wide     web             container  up              02:42:0a:50:01:02  10.80.1.2/16  1450  1036  1.2 MB   5   999 B    mtu 30, spoofed 3
wide     192.0.2.2:4789  remote     down: no route  -                  -             1450  7     700 B    0   0 B      refused 2`},
		{"ports without Docker", unnamed, "ports 80", `
NETWORK       PORT            KIND       STATE           MAC                ADDRESSES     MTU   RX    RX SIZE  TX  TX SIZE  DROPS
aaaa11111111  9b1d44444444    container  up              02:42:0a:50:01:02  10.80.1.2/16  1450  1036  1.2 MB   5   999 B    mtu 30, spoofed 3
aaaa11111111  192.0.2.2:4789  remote     down: no route  -                  -             1450  7     700 B    0   0 B      refused 2`},
		{"fdb", named, "fdb", `
NETWORK  VNI  MAC                PORT            KIND     AGE
wide     80   02:42:0a:50:01:02  web             pinned   -
wide     80   02:42:0a:50:02:09  192.0.2.2:4789  learned  1m 23s`},
		{"fdb of a quiet network", named, "fdb mynet", `
NETWORK  VNI  MAC  PORT  KIND  AGE`},
		{"peers", named, "peers", `
NETWORK  VNI  PEER             FROM     STATE  MTU   GSO       RTT      LOSS                                 RX  RX SIZE  TX  TX SIZE  HEARD
wide     80   192.0.2.2:4789   network  up     1450  yes       1.50 ms  1.6 % / 0.5 %, 2 reordered, 4 twice  7   700 B    0   0 B      3s ago
wide     80   [2001:db8::2]:1  network  up     1450  untested  -        -                                    0   0 B      0   0 B      never`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := tapestry(t, append(strings.Fields(c.args), "--api-socket", socket, "--docker-host", c.Engine)...)
			if r.code != exit.OK || r.stderr != "" {
				t.Fatalf("exit %d, %s", r.code, r.stderr)
			}
			if trimmed(r.out) != trimmed(c.want) {
				t.Errorf("got\n%s\nwant\n%s", trimmed(r.out), trimmed(c.want))
			}
		})
	}
}

func TestStatus(t *testing.T) {
	r := tapestry(t, "status", "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", fake.Docker(t))
	for _, want := range []string{"driver     tapestry\n", "running    1h 30m, since ", "tunnel     open, 192.0.2.1 port 4789\n",
		"rx_dropped no_peer 12 (datagrams that were refused on receive: ", "outside    bad_checksum 3 (", "offloads   csum tso4 on; uso unavailable at 3 of 3 (not supported by this kernel, since 1h 0m); udp_gso off at 1 of 2 (EINVAL, since 12s, refused 1×, 45 sent again)\n",
		"wide     02:42:0a:50:01:02  10.80.1.2/16  web    192.0.2.2:4789  4\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r.code != exit.OK {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	quiet := tapestry(t, "status", "--api-socket", fake.Daemon(t, &fake.Fabric{Empty: true}), "--docker-host", fake.Docker(t))
	if !strings.Contains(quiet.out, "tunnel     closed, no network has a VNI\n") || strings.Contains(quiet.out, "rx_dropped") || strings.Contains(quiet.out, "outside") {
		t.Errorf("an idle daemon shows\n%s", quiet.out)
	}
}

func TestGSOText(t *testing.T) {
	for want, p := range map[string]api.Peer{
		"":                     {State: "down"},
		"yes":                  {State: "up", GSO: true, Test: "ok"},
		"untested":             {State: "up", GSO: true, Test: "no answer"},
		"no (refused: EINVAL)": {State: "up", GSOWhy: "EINVAL", Test: "ok"},
		"no (mangled)":         {State: "up", GSOWhy: "the peer does not receive trains as they were sent", Test: "mangled"},
	} {
		if got := gsoText(p); got != want {
			t.Errorf("%+v is shown as %q, want %q", p, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	socket, dockerHost := fake.Daemon(t, fake.NewFabric()), fake.Docker(t)
	for _, c := range []struct {
		args string
		code int
		want string // in the one line on stderr
	}{
		{"prots", exit.Usage, `no command "prots", did you mean ports?`},
		{"help prots", exit.Usage, `did you mean ports?`},
		{"peers ad wide 192.0.2.3", exit.Usage, `did you mean add?`},
		{"xyzzy", exit.Usage, `see tapestry --help`},
		{"ports --jsn", exit.Usage, `no flag --jsn, did you mean --json?`},
		{"ports -x", exit.Usage, `no flag -x, see tapestry ports --help`},
		{"ports --json=maybe", exit.Usage, `want true or false`},
		{"ports wide mynet", exit.Usage, `"mynet" is one argument too many, want: tapestry ports [NET] [flags]`},
		{"peers add wide", exit.Usage, `too few arguments, want: tapestry peers add NET ADDR[:PORT]`},
		{"peers add wide web:0", exit.Usage, `"web:0" is no peer, want an IP address`},
		{"completion tcsh", exit.Usage, `no completion for "tcsh", want bash, zsh, fish`},
		{"ports --docker-host ssh://host", exit.Usage, `want unix:///PATH or tcp://HOST:PORT`},
		{"run --vxlan-port 70000", exit.Usage, `--vxlan-port "70000": want a port from 1 to 65535`},
		{"run --vxlan-port 0", exit.Usage, `want a port from 1 to 65535`},
		{"run --peer web:0", exit.Usage, `--peer "web:0"`},
		{"run --vtep fe80::1", exit.Usage, `--vtep "fe80::1": want one host's IP address, such as 192.0.2.1 or 2001:db8::1: fe80::1 holds on one link only`},
		{"run --vtep ::ffff:192.0.2.1%eth0", exit.Usage, `holds on one link only`},
		{"run --vtep 239.1.1.1", exit.Usage, `239.1.1.1 is a multicast group`},
		{"run --peer 127.0.0.1", exit.Usage, `--peer 127.0.0.1: peer 127.0.0.1 is a loopback address, which every host has for itself: name the address that the other host has`},
		{"run --vtep 192.0.2.1 --peer 127.0.0.1", exit.Usage, `as this one has 192.0.2.1`},
		{"run --vtep 127.0.0.1 --peer 192.0.2.2", exit.Usage, `start tapestry with another --vtep`},
		{"run --vtep 192.0.2.1 --peer 2001:db8::2", exit.Usage, `different IP versions`},
		{"run --vtep 192.0.2.1,192.0.2.9", exit.Usage, `192.0.2.1 and 192.0.2.9 are of one IP version: want one address of each at most`},
		{"run --vtep 192.0.2.1,", exit.Usage, `after the comma: want one host's IP address`},
		{"run --vtep 192.0.2.1,2001:db8::1,2001:db8::2", exit.Usage, `after the comma: want one host's IP address`},
		{"run --vtep 192.0.2.1,2001:db8::1 --peer 192.0.2.2 --peer 2001:db8::2 --peer ::1", exit.Usage, `--peer ::1: peer ::1 is a loopback address`},
		{"doctor --vtep 2001:db8::1,2001:db8::2", exit.Usage, `of one IP version`},
		{"doctor --vtep fe80::1", exit.Usage, `fe80::1 holds on one link only`},
		{"run --vtep 0.0.0.0", exit.Usage, `--vtep "0.0.0.0": want one host's IP address`},
		{"run --vtep eth0", exit.Usage, `--vtep "eth0": want one host's IP address`},
		{"run --sweep-after 60", exit.Usage, `want a duration greater than zero, such as 60s`},
		{"run --sweep-after -1s", exit.Usage, `want a duration greater than zero`},
		{"run --log-level loud", exit.Usage, `want debug, info, warn, error`},
		{"run --log-format xml", exit.Usage, `want text, json`},
		{"run --name a/b", exit.Usage, `want up to 32 letters`},
		{"run --state-dir var", exit.Usage, `want an absolute path`},
		{"run --workers -1", exit.Usage, `want a number from 1 to 256`},
		{"run --api-socket /run/api", exit.Usage, `want an absolute path that ends in .sock`},
		{"run now", exit.Usage, `"now" is one argument too many`},
		{"ports wid", exit.NoTarget, `no network "wid", did you mean wide?`},
		{"fdb 81", exit.NoTarget, `did you mean 80?`},
		{"fdb aaaa21", exit.NoTarget, `did you mean aaaa11`},
		{"ports somewhere-else", exit.NoTarget, `there are: 80cc33333333, mynet, wide`},
		{"ports bridge", exit.NoTarget, `network bridge exists but its driver is bridge`},
		{"peers rm wide 192.0.2.99", exit.NoTarget, `192.0.2.99`},
		{"peers add mynet 192.0.2.3", exit.Failure, `network mynet has no VNI`},
		{"peers rm nowhere 192.0.2.2", exit.NoTarget, `no network "nowhere"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Fields(c.args)
			if !strings.Contains(c.args, "--api-socket") {
				args = append(args, "--api-socket", socket)
			}
			t.Setenv("DOCKER_HOST", dockerHost)
			r := tapestry(t, args...)
			if r.code != c.code || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 || r.out != "" {
				t.Errorf("exit %d, want %d; stderr %q, want %q in one line; stdout %q", r.code, c.code, r.stderr, c.want, r.out)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead.sock")
	for _, args := range []string{"status", "networks", "ports", "ports wide", "fdb", "peers", "peers add wide 192.0.2.3", "peers rm wide 192.0.2.3"} {
		r := tapestry(t, append(strings.Fields(args), "--api-socket", dead, "--docker-host", fake.Docker(t))...)
		want := "tapestry: no daemon answers at " + dead + ": start one: `tapestry run` as root, `systemctl start tapestry`, or `docker plugin enable tapestry`\n"
		if r.code != exit.NoDaemon || r.stderr != want {
			t.Errorf("%s: exit %d, %q", args, r.code, r.stderr)
		}
	}
}

func TestPeers(t *testing.T) {
	h := fake.NewFabric()
	socket, dockerHost := fake.Daemon(t, h), fake.Docker(t)
	for _, c := range []struct {
		args, out string
		code      int
	}{
		{"add wide 192.0.2.3", "peer 192.0.2.3 added to wide\n", exit.OK},
		{"add 80 192.0.2.4:4790", "peer 192.0.2.4:4790 added to wide\n", exit.OK},
		{"rm wide 192.0.2.3:4791", "", exit.NoTarget},
		{"rm wide 192.0.2.3", "peer 192.0.2.3 removed from wide\n", exit.OK},
		{"rm wide 192.0.2.3", "", exit.NoTarget},
		{"rm wide 192.0.2.4", "peer 192.0.2.4 removed from wide\n", exit.OK},
		{"rm wide [2001:db8::2]:1", "peer [2001:db8::2]:1 removed from wide\n", exit.OK},
	} {
		r := tapestry(t, append(strings.Fields("peers "+c.args), "--api-socket", socket, "--docker-host", dockerHost)...)
		if r.code != c.code || r.out != c.out {
			t.Errorf("peers %s: exit %d, want %d; %q, want %q; %s", c.args, r.code, c.code, r.out, c.out, r.stderr)
		}
	}
	if len(h.Addrs) != 1 || h.Addrs[0].String() != "192.0.2.2:4789" {
		t.Errorf("left are %v", h.Addrs)
	}
}

func TestCompletion(t *testing.T) {
	socket, dockerHost := fake.Daemon(t, fake.NewFabric()), fake.Docker(t)
	for _, c := range []struct{ args, want string }{
		{"ports", "80cc33333333\tVNI 90\nwide\tVNI 80\nmynet\tstays on this host\n:4\n"},
		{"peers rm wide", "192.0.2.2:4789\n[2001:db8::2]:1\n:4\n"},
		{"peers add wide", ":4\n"},
		{"ports wide", ":4\n"},
	} {
		args := append(append([]string{"__complete"}, strings.Fields(c.args)...), "--api-socket", socket, "--docker-host", dockerHost, "")
		if r := tapestry(t, args...); r.out != c.want {
			t.Errorf("%s: %q, want %q", c.args, r.out, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := tapestry(t, "completion", shell); r.code != exit.OK || !strings.Contains(r.out, "__complete") {
			t.Errorf("completion %s: exit %d, %d bytes", shell, r.code, len(r.out))
		}
	}
}

func TestVersion(t *testing.T) {
	var b build
	r := tapestry(t, "version", "--json")
	if err := json.Unmarshal([]byte(r.out), &b); err != nil || b.Version == "" || b.OS != "linux" {
		t.Errorf("%q: %v", r.out, err)
	}
	if r := tapestry(t, "version"); r.code != exit.OK || !strings.HasPrefix(r.out, "tapestry "+b.Version+", commit ") {
		t.Errorf("exit %d, %q", r.code, r.out)
	}
}
