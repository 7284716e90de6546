package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Credentials are who asks (SO_PEERCRED, unix(7)); -1: not known.
type Credentials struct{ UID, PID int }

func (c Credentials) Network() string { return "unix" }

func (c Credentials) String() string { return fmt.Sprintf("uid=%d pid=%d", c.UID, c.PID) }

func CredentialsOf(c net.Conn) Credentials {
	unknown := Credentials{-1, -1}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return unknown
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return unknown
	}
	who := unknown
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = Credentials{int(cred.Uid), int(cred.Pid)}
		}
	})
	if err != nil {
		return unknown
	}
	return who
}
