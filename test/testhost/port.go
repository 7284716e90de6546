package testhost

import (
	"math/rand/v2"
	"net"
	"testing"
)

// UDPPort is a UDP port of loopback addresses that is the test's until it ends. Nobody else who asks UDPPort gets it, in this process or
// another, and the kernel gives it to nobody who asks for any port: it is below those (sysctl net.ipv4.ip_local_port_range).
func UDPPort(t testing.TB) uint16 {
	t.Helper()
	const first, last = 10000, 32767
	var err error
	for range 1000 {
		port := first + rand.IntN(last-first+1)
		var all, own *net.UDPConn
		if all, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port}); err != nil {
			continue
		}
		all.Close() // nobody has it on any address
		if own, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 255, 255, 254), Port: port}); err != nil {
			continue // somebody was faster
		}
		t.Cleanup(func() { own.Close() })
		return uint16(port)
	}
	t.Fatal("no UDP port is free: ", err)
	return 0
}
