package tap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckEnter returns why this process cannot enter the network namespaces of containers; nil if it can. That needs
// CAP_SYS_ADMIN (setns(2)), which a managed plugin of Docker has only if its configuration asks for it.
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
