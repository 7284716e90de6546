package tunnel

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestListenRefused is what docker network create says where the tunnel cannot be opened: a sentence, and the kernel's word
// behind it.
func TestListenRefused(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{unix.EAFNOSUPPORT: "no IPv6", unix.EMFILE: "ulimit -n", unix.ENFILE: "fs.file-max",
		unix.ENOBUFS: "no memory left", unix.ENOMEM: "no memory left"} {
		if err := explainSocket(errno); !errors.Is(err, errno) || !strings.Contains(err.Error(), words) || !strings.HasSuffix(err.Error(), "("+errno.Error()+")") {
			t.Errorf("%v: %v", errno, err)
		}
	}
	host(t)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var was, less [2]unix.CapUserData
	testhost.Must(t, unix.Capget(&head, &was[0]))
	less = was
	less[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
	for addr, words := range map[string]string{
		"127.0.0.1:100":   "a port below 1024 takes CAP_NET_BIND_SERVICE: take another --vxlan-port, the same on every host (permission denied)",
		"192.0.2.77:4789": "no link of this host has that address: give it to one, or start tapestry with another --vtep (cannot assign requested address)",
	} {
		testhost.Must(t, unix.Capset(&head, &less[0]))
		v, err := Listen(netip.MustParseAddrPort(addr), 1)
		testhost.Must(t, unix.Capset(&head, &was[0]))
		if err == nil {
			v.Close()
		}
		if err == nil || err.Error() != "bind UDP "+addr+": "+words {
			t.Errorf("%s: %v", addr, err)
		}
	}
	first := listen(t, "127.0.0.1", 1)
	if _, err := Listen(first.Local, 1); !errors.Is(err, unix.EADDRINUSE) { // fabric says who has it
		t.Errorf("a port that is taken: %v", err)
	}
}
