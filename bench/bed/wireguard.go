package bed

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"fmt"
	"net"
	"os"
	"time"
)

// WireGuard is wireguard-go between two hosts: a good tunnel written in Go, to compare with. It carries IP, not Ethernet, and
// it encrypts. Its TUN is the container's link, MTU 1420; its UDP socket stays on the host.
type WireGuard struct {
	Binary string // path of wireguard-go, "" where there is none
}

func (WireGuard) Name() string { return "wireguard-go" }

func (w WireGuard) Missing() string {
	if w.Binary == "" {
		return "needs wireguard-go beside tapestry or in PATH (go install golang.zx2c4.com/wireguard, its binary named wireguard-go)"
	}
	if _, err := os.Stat(w.Binary); err != nil {
		return err.Error()
	}
	return ""
}

// wireguardKey of host n. Nobody else is on the underlay, so the key need not be secret.
func wireguardKey(n int) (*ecdh.PrivateKey, error) {
	return ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{byte(n)}, 32))
}

func (w WireGuard) Create(ctx context.Context, h Host) error {
	if err := h.launch(ctx, "%s c%d 2>/dev/null", w.Binary, h.number); err != nil { // it warns that the kernel has a WireGuard of its own
		return err
	}
	own, err := wireguardKey(h.number)
	if err != nil {
		return err
	}
	peer, err := wireguardKey(3 - h.number)
	if err != nil {
		return err
	}
	return w.set(ctx, h, fmt.Sprintf("private_key=%x\nlisten_port=51820\npublic_key=%x\nendpoint=192.0.2.%[3]d:51820\nallowed_ip=10.77.0.%[3]d/32\nallowed_ip=fd77::%[3]d/128\n",
		own.Bytes(), peer.PublicKey().Bytes(), 3-h.number))
}

// set configures the daemon: https://www.wireguard.com/xplatform/#configuration-protocol.
func (WireGuard) set(ctx context.Context, h Host, lines string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", h.path(fmt.Sprintf("/run/wireguard/c%d.sock", h.number)))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "set=1\n%s\n", lines); err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	var errno int
	if _, err := fmt.Fscanf(conn, "errno=%d\n", &errno); err != nil || errno != 0 {
		return fmt.Errorf("configure wireguard-go: errno %d, %w", errno, err)
	}
	return nil
}

func (WireGuard) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	return h.addContainer(ctx, n, fmt.Sprintf("c%d", n))
}
