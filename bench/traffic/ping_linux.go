package traffic

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// pingTime is how long ping waits for an answer.
const pingTime = 20 * time.Second

// ping pings an address at once and then every millisecond, until it answers. It prints the time of the answer, in ns of Unix
// time.
func ping(ctx context.Context, target string, out io.Writer) error {
	addr, err := netip.ParseAddr(target)
	if err != nil {
		return err
	}
	network, request, response := "ip4:icmp", byte(8), byte(0) // RFC 792
	if addr.Is6() {
		network, request, response = "ip6:ipv6-icmp", 128, 129 // RFC 4443 §4
	}
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	conn, err := net.ListenPacket(network, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	echo := echoRequest(request, uint16(os.Getpid()))
	var answer [256]byte
	for ctx.Err() == nil {
		_, err = conn.WriteTo(echo, &net.IPAddr{IP: addr.AsSlice()}) // fails while there is no route to it
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		for {
			n, from, late := conn.ReadFrom(answer[:])
			if late != nil {
				break
			}
			if n >= 8 && answer[0] == response && [2]byte(answer[4:6]) == [2]byte(echo[4:6]) && from.String() == addr.String() {
				_, err := fmt.Fprintln(out, time.Now().UnixNano())
				return err
			}
		}
	}
	return fmt.Errorf("%s does not answer: %w", target, err)
}

// echoRequest is one of ICMP, 64 bytes. Its checksum is correct for IPv4; for IPv6 the kernel replaces it, RFC 3542 §3.1.
func echoRequest(kind byte, id uint16) []byte {
	echo := make([]byte, 64)
	echo[0] = kind
	sum := uint32(kind)<<8 + uint32(id)
	binary.BigEndian.PutUint16(echo[2:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(echo[4:], id)
	return echo
}
