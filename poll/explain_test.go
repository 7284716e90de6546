package poll

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What epoll refuses for want of something is said in a sentence.
func TestExplain(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{unix.ENOSPC: "raise sysctl fs.epoll.max_user_watches", unix.ENOMEM: "no memory left"} {
		if err := explain(errno); !errors.Is(err, errno) || !strings.Contains(err.Error(), words) || !strings.HasSuffix(err.Error(), "("+errno.Error()+")") {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if explain(unix.EBADF) != unix.EBADF {
		t.Error("what it knows nothing of is changed")
	}
}
