package tap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckEnter tells why this process can enter no container's network namespace: that takes CAP_SYS_ADMIN (setns(2)), which
// Docker's managed plugins have only if their configuration asks for it. nil: it has that.
func CheckEnter() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("ask for this process's capabilities: %w", err)
	}
	if data[unix.CAP_SYS_ADMIN/32].Effective&(1<<(unix.CAP_SYS_ADMIN%32)) == 0 {
		return errors.New("this process may not enter containers' network namespaces, it has no CAP_SYS_ADMIN")
	}
	return nil
}
