package tap

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestNode: what keeps TAPs from being made is said in a sentence, with what would be right.
func TestNode(t *testing.T) {
	testhost.Root(t, "to make devices")
	runtime.LockOSThread() // and never unlocked: the thread has its own mounts, and less rights at the end
	testhost.Must(t, unix.Unshare(unix.CLONE_NEWNS))
	testhost.Must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	device := func(name string, major, minor uint32) string {
		testhost.Must(t, unix.Mknod(path(name), unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))))
		return path(name)
	}
	good := device("good", nodeMajor, nodeMinor)
	testhost.Must(t, os.Mkdir(path("nodev"), 0o700))
	testhost.Must(t, unix.Mount("none", path("nodev"), "tmpfs", unix.MS_NODEV, ""))
	t.Cleanup(func() { _ = unix.Unmount(path("nodev"), unix.MNT_DETACH) })
	testhost.Must(t, os.WriteFile(path("plain"), nil, 0o600))
	testhost.Must(t, checkNode(good))
	for _, tt := range []struct{ name, path, wrong, remedy string }{
		{"none", path("none"), "there is no ", "c 10 200"},
		{"a plain file", path("plain"), "is no device but a plain file", "c 10 200"},
		{"a directory", dir, "is no device but a directory", "c 10 200"},
		{"another device", device("null", 1, 3), "is device 1:3, and the tun driver's is 10:200", "c 10 200"},
		{"nodev", device("nodev/tun", nodeMajor, nodeMinor), "mounted nodev", "mount -o remount,dev"},
	} {
		err, ok := checkNode(tt.path).(*NodeError)
		if !ok || !strings.Contains(err.Wrong, tt.wrong) || !strings.Contains(err.Wrong, tt.path) || !strings.Contains(err.Remedy, tt.remedy) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	testhost.Must(t, unix.Capget(&head, &caps[0]))
	caps[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	testhost.Must(t, unix.Capset(&head, &caps[0])) // of this thread
	if err, ok := checkNode(good).(*NodeError); !ok || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without the right: %v", err)
	}
}
