package tap

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// bare finds an errno's words that stand alone: not in brackets at the end, behind a sentence.
var bare = regexp.MustCompile(`(: |^)(no such|operation not|permission|device or|file exists|invalid|too many|cannot allocate|no space|read-only|no buffer)[^()]*$`)

func sentence(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	if bare.MatchString(err.Error()) {
		t.Errorf("%s: a bare errno: %v", what, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: no %q in: %v", what, w, err)
		}
	}
}

// What the kernel refuses is said with what is wrong and what would be right, and stays the error that it was.
func TestExplain(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{
		unix.EPERM: "lacks CAP_NET_ADMIN", unix.EACCES: "lacks CAP_NET_ADMIN", unix.EOPNOTSUPP: "does not support it", unix.EINVAL: "does not support it",
		unix.ENODEV: "has gone meanwhile: try again", unix.EBUSY: "another program", unix.EEXIST: "is there already",
		unix.EMFILE: "raise ulimit -n", unix.ENFILE: "fs.file-max", unix.ENOMEM: "no memory left", unix.ENOBUFS: "no memory left",
	} {
		err := fmt.Errorf("bring link up: %w", explain(errno, ""))
		sentence(t, errno.Error(), err, words, "("+errno.Error()+")")
		if !errors.Is(err, errno) {
			t.Errorf("%v is lost in %v", errno, err)
		}
	}
	sentence(t, "a module", explain(unix.EOPNOTSUPP, "veth"), "modprobe -a veth")
	sentence(t, "a namespace", explainNamespace(unix.EPERM), "lacks CAP_SYS_ADMIN")
	if !gone(fmt.Errorf("x: %w", explain(unix.ENODEV, ""))) || explain(nil, "") != nil {
		t.Error("what has gone is not known any more")
	}
}

// TestCreateRefused is what a container's start says where its links cannot be made.
func TestCreateRefused(t *testing.T) {
	name, outer, inner := Names(id)
	add := func(t *testing.T, name string) netlink.Link {
		at := netlink.NewLinkAttrs()
		at.Name = name
		testhost.Must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: at}))
		return link(t, name)
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T)
		words   []string
	}{
		{"the container's end is taken", func(t *testing.T) { add(t, inner) }, []string{"make veth " + outer, "ip -d link show " + inner, "rename or remove it", "(file exists)"}},
		{"the host's end is another's", func(t *testing.T) { testhost.Must(t, netlink.LinkSetAlias(add(t, outer), "x")) }, []string{outer + " exists and is not ours", "rename or remove it"}},
		{"the TAP is another kind of link", func(t *testing.T) { add(t, name) }, []string{name, "no TAP of several queues", "rename or remove it"}},
		{"as many files as it may", func(t *testing.T) {
			var was unix.Rlimit
			testhost.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
			testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}))
			t.Cleanup(func() { testhost.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) })
		}, []string{"raise ulimit -n", "(too many open files)"}},
		{"no right", func(t *testing.T) { drop(t, unix.CAP_NET_ADMIN) }, []string{"lacks CAP_NET_ADMIN", "(operation not permitted)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testhost.Namespace(t)
			tt.prepare(t)
			d, err := Create(spec(Veth))
			if err == nil {
				d.Close()
			}
			sentence(t, "Create", err, tt.words...)
		})
	}
}

// drop takes a right from this thread until the test ends.
func drop(t *testing.T, capability int) {
	t.Helper()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var was, less [2]unix.CapUserData
	testhost.Must(t, unix.Capget(&head, &was[0]))
	less = was
	less[capability/32].Effective &^= 1 << (capability % 32)
	testhost.Must(t, unix.Capset(&head, &less[0]))
	t.Cleanup(func() { testhost.Must(t, unix.Capset(&head, &was[0])) })
}
