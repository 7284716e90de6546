package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Credentials say which process is at the other end of a Unix socket (SO_PEERCRED, unix(7)); -1: not known. They are a net.Addr,
// so that an http.Request carries them as its RemoteAddr.
type Credentials struct{ UID, PID int }

// Network is that of net.Addr.
func (c Credentials) Network() string { return "unix" }

// String is what the daemon reads again from RemoteAddr.
func (c Credentials) String() string { return fmt.Sprintf("uid=%d pid=%d", c.UID, c.PID) }

// CredentialsOf asks the kernel who is at the other end. Of a connection that is no Unix socket nothing is known.
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
