package tap

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestDeletedTAP(t *testing.T) {
	d, _ := port(t, Veth)
	tap, _, _ := Names(id)
	testhost.Must(t, netlink.LinkDel(link(t, tap)))
	err := d.Drain(make([]byte, 512<<10))
	if !errors.Is(err, syscall.EBADFD) || !strings.Contains(err.Error(), tap) {
		t.Errorf("Drain of a deleted TAP = %v, want EBADFD and its name", err)
	}
	f := tcp(10).frame(t)
	if sent, _ := d.Send([]*ether.Frame{&f}); sent != 0 {
		t.Error("a deleted TAP took a frame")
	}
}

// TestRuntimePollerLeft: the workers watch the queue; Go's own poller would wake for every frame as well.
func TestRuntimePollerLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // makes sure that there is a poller
	testhost.Must(t, err)
	defer l.Close()
	d, _ := port(t, Veth)
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	testhost.Must(t, err)
	watched := 0
	for _, info := range infos {
		b, err := os.ReadFile(info)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" {
				watched++
				if f[1] != strconv.Itoa(d.Fd()) {
					continue
				}
				t.Errorf("descriptor %d is watched by the runtime: %s", d.Fd(), line)
			}
		}
	}
	if watched == 0 {
		t.Error("found nothing that the runtime watches, not even the listener")
	}
}

func TestCloseGivesTheQueueBack(t *testing.T) {
	testhost.Namespace(t)
	s := spec(Veth)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		testhost.Must(t, err)
		return len(fds)
	}
	d, err := Create(s)
	testhost.Must(t, err)
	testhost.Must(t, d.Close())
	before := count()
	for range 5 {
		d, err := Create(s)
		testhost.Must(t, err)
		testhost.Must(t, d.Close())
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
	testhost.Must(t, Remove(s))
}

// TestCloseTwice: a descriptor's number is another file's soon.
func TestCloseTwice(t *testing.T) {
	testhost.Namespace(t)
	d := create(t, spec(Veth))
	number := d.Fd()
	testhost.Must(t, d.Close())
	null, err := os.Open(os.DevNull)
	testhost.Must(t, err)
	defer null.Close()
	if int(null.Fd()) != number {
		testhost.Must(t, unix.Dup3(int(null.Fd()), number, unix.O_CLOEXEC))
		defer unix.Close(number)
	}
	testhost.Must(t, d.Close())
	if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != nil {
		t.Errorf("the second Close closed another file: %v", err)
	}
	f := tcp(10).frame(t)
	if sent, _ := d.Send([]*ether.Frame{&f}); sent != 0 {
		t.Error("Send wrote into another file")
	}
}
