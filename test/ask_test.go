package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// post sends a request to the driver as dockerd does, without a Content-Type, and returns the status and the reply.
func (h *Host) post(t *testing.T, method, body string) (int, string) {
	t.Helper()
	return h.send(t, h.socket(), "/"+method, "", body)
}

// dockerAPI sends dockerd a POST that must succeed.
func (h *Host) dockerAPI(t *testing.T, path, body string) {
	t.Helper()
	if status, reply := h.send(t, "/run/docker.sock", path, "application/json", body); status >= 300 {
		t.Fatalf("POST %s %s: %d %s", path, body, status, reply)
	}
}

// send POSTs a body to one of the host's sockets.
func (h *Host) send(t *testing.T, socket, path, contentType, body string) (int, string) {
	t.Helper()
	status, reply, err := h.trySend(socket, path, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, reply
}

func (h *Host) trySend(socket, path, contentType, body string) (status int, reply string, err error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return h.dial(ctx, socket)
		},
	}}
	request, err := http.NewRequest("POST", "http://plugin.moby.localhost"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(bytes.TrimSpace(text)), err
}

// dial connects to one of the host's sockets. Its path as seen from here may be too long for a socket's address (unix(7)).
func (h *Host) dial(ctx context.Context, socket string) (net.Conn, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/root%s", h.pid, filepath.Dir(socket)))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket)))
}

// objects runs a tapestry command with --json whose output is an array.
func objects[T any](t *testing.T, h *Host, args ...string) []T {
	t.Helper()
	var list []T
	out := h.tapestry(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("tapestry %s --json: %v: %s", strings.Join(args, " "), err, out)
	}
	return list
}

type port struct {
	Network   string            `json:"network"`
	Kind      string            `json:"kind"`
	Name      string            `json:"name"`
	Link      string            `json:"link"`
	MAC       string            `json:"mac"`
	Addresses []string          `json:"addresses"`
	RxFrames  uint64            `json:"rx_frames"`
	RxBytes   uint64            `json:"rx_bytes"`
	TxFrames  uint64            `json:"tx_frames"`
	TxBytes   uint64            `json:"tx_bytes"`
	Offered   uint64            `json:"offered"`
	Refused   uint64            `json:"refused"`
	Drops     map[string]uint64 `json:"drops"`
	Missed    uint64            `json:"missed"`
	WireTx    uint64            `json:"wire_tx"`
	WireRx    uint64            `json:"wire_rx"`
}

type network struct {
	ID        string            `json:"id"`
	VNI       uint32            `json:"vni"`
	Rx        uint64            `json:"rx"`
	Forwarded uint64            `json:"forwarded"`
	Flooded   uint64            `json:"flooded"`
	Answered  uint64            `json:"answered"`
	Drops     map[string]uint64 `json:"drops"`
}

type entry struct {
	Network string `json:"network"`
	VNI     uint32 `json:"vni"`
	MAC     string `json:"mac"`
	Port    string `json:"port"`
	Kind    string `json:"kind"`
}
