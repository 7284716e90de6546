package main

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// What cannot be listened at or asked is refused, with what would be right.
func TestResolverFlags(t *testing.T) {
	dockerHost := fake.Docker(t)
	for args, want := range map[string]string{
		"--listen 172.17.0.1":                        `--listen "172.17.0.1": want an address with a port, such as 172.17.0.1:53`,
		"--listen 127.0.0.1:0":                       "want an address with a port",
		"--upstream dns.example":                     `--upstream "dns.example": want a DNS server's address`,
		"--upstream 0.0.0.0":                         "want a DNS server's address",
		"--docker-host ssh://host":                   "want unix:///PATH or tcp://HOST:PORT",
		"blue":                                       `"blue" is one argument too many`,
		"--listen 192.0.2.1:53 --docker-host tcp://": "want unix:///PATH or tcp://HOST:PORT",
	} {
		if !strings.Contains(args, "--docker-host") {
			args += " --docker-host " + dockerHost
		}
		r := tapestry(t, append([]string{"resolver"}, strings.Fields(args)...)...)
		if r.code != exit.Usage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit %d, %s", args, r.code, r.stderr)
		}
	}
	r := tapestry(t, "resolver", "--listen", "192.0.2.1:53", "--docker-host", dockerHost)
	if r.code != exit.Failure || !strings.Contains(r.stderr, "listen at 192.0.2.1:53: ") || !strings.Contains(r.stderr, "it is no address of this host") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
