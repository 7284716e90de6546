package tap

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// What tapestry needs is here, and looking for it leaves nothing behind.
func TestProbes(t *testing.T) {
	testhost.Namespace(t)
	got, err := ProbeTUN()
	testhost.Must(t, err)
	if !got.Header || !got.Csum || !got.TSO {
		t.Errorf("a tap of this kernel has %+v, want at least virtio-net headers, checksums and TSO", got)
	}
	testhost.Must(t, ProbeVeth())
	testhost.Eventually(t, testhost.Patience, ProbeRedirect) // it gives the kernel a second
	links, err := netlink.LinkList()
	testhost.Must(t, err)
	if len(links) != 1 {
		t.Errorf("%d links in the namespace after the probes, want lo alone", len(links))
	}
}

// A redirect that leads nowhere is found out by the frame that does not arrive.
func TestProbeFindsSwallowedFrames(t *testing.T) {
	testhost.Namespace(t)
	s := spec(Veth)
	d := create(t, s)
	tap, outer, inner := Names(s.ID)
	testhost.Must(t, netlink.LinkSetUp(link(t, inner)))
	testhost.Eventually(t, testhost.Patience, func() error { return d.checkRedirect(link(t, inner).Attrs().Index, s.MAC) })
	for _, name := range []string{outer, tap} {
		testhost.Must(t, netlink.QdiscDel(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link(t, name).Attrs().Index,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}))
		if err := d.checkRedirect(link(t, inner).Attrs().Index, s.MAC); err == nil {
			t.Errorf("without the redirect of %s the probe is content", name)
		}
		testhost.Must(t, anywhere.redirect(link(t, outer), link(t, tap)))
	}
}

func TestApart(t *testing.T) {
	testhost.Namespace(t)
	want := errors.New("as fn says")
	inside := 0
	err := inNewNamespace(func() error {
		links, err := netlink.LinkList()
		inside = len(links)
		return errors.Join(err, want)
	})
	if !errors.Is(err, want) || inside != 1 {
		t.Errorf("%d links inside, %v; want lo alone, and fn's error", inside, err)
	}
}

// What a link loses that has just come up is sent again, even if this process has got no time for a while.
func TestProbeSendsAgain(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	sent, done := 0, false
	send := func() (err error) {
		switch sent++; sent { // those before the third are lost
		case 1:
			time.Sleep(time.Second) // the machine is busy
		case 3:
			_, err = unix.Write(pipe[1], []byte("frame"))
		}
		return err
	}
	read := func() error {
		n, err := unix.Read(pipe[0], make([]byte, 8))
		done = n == 5
		return err
	}
	if err := sendUntil(pipe[0], &done, send, read); err != nil || sent != 3 {
		t.Errorf("%d were sent: %v", sent, err)
	}
	done = false
	nothing := func() error { return nil }
	if err := sendUntil(pipe[0], &done, nothing, read); err == nil || !strings.Contains(err.Error(), "not within a second") {
		t.Errorf("nothing comes: %v", err)
	}
	if err := sendUntil(pipe[0], &done, func() error { return unix.ENETDOWN }, read); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("nothing can be sent: %v", err)
	}
}
