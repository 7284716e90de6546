package fabric

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestDiskRefuses: if the state cannot be written, a docker command's error names the directory, the reason and what to do; and
// nothing is created.
func TestDiskRefuses(t *testing.T) {
	testhost.Root(t, "to mount")
	for _, c := range []struct {
		name, want string
		errno      syscall.Errno
		spoil      func(dir string) error
	}{
		{"full", "no room is left there: make some", unix.ENOSPC, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<20), 0o600)
		}},
		{"read-only", "the file system is read-only there: mount -o remount,rw", unix.EROFS, func(dir string) error {
			return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}},
		{"gone", "the directory is gone: start tapestry again", unix.ENOENT, func(dir string) error { return os.RemoveAll(filepath.Join(dir, "networks")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread() // and never unlocked: the thread has mounts of its own
			for _, err := range []error{unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")} {
				if err != nil {
					t.Fatal(err)
				}
			}
			h := newHost(t)
			h.mustNetwork(local(1))
			h.m.hook = nil
			h.close()
			dir := h.cfg.Dir
			if err := errors.Join(os.CopyFS(dir+".saved", os.DirFS(dir)), unix.Mount("none", dir, "tmpfs", 0, "size=64k"), os.CopyFS(dir, os.DirFS(dir+".saved"))); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			h.start()
			if err := c.spoil(dir); err != nil && !errors.Is(err, c.errno) {
				t.Fatal(err)
			}
			said := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, c.errno) || strings.Count(err.Error(), c.want) != 1 || strings.Contains(err.Error(), "\n") ||
					!strings.Contains(err.Error(), filepath.Join(dir, "networks")+": ") || !strings.HasSuffix(err.Error(), "("+c.errno.Error()+")") {
					t.Errorf("%s: %v", what, err)
				}
			}
			said("network create", h.CreateNetwork(t.Context(), local(2)))
			_, err := h.CreateEndpoint(t.Context(), netID(1), ep(1))
			said("run", err)
			if len(h.Networks()) != 1 || len(h.containers()) != 0 || len(h.m.links) != 0 {
				t.Errorf("something is left: %d networks, ports %v, links %v", len(h.Networks()), h.containers(), h.m.links)
			}
		})
	}
}

// The error of undoing is added, unless it has the same reason.
func TestUndone(t *testing.T) {
	full, busy := error(syscall.ENOSPC), errors.New("in use")
	if err := withUndo(full, full); err != full {
		t.Error(err)
	}
	if err := withUndo(full, nil); err != full {
		t.Error(err)
	}
	if err := withUndo(full, busy); !errors.Is(err, full) || !errors.Is(err, busy) || err.Error() != full.Error()+"; and it could not be undone: in use" {
		t.Error(err)
	}
	if err := withUndo(tap.ErrGone, full); !errors.Is(err, full) {
		t.Error(err)
	}
}
