package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tapestry-net/tapestry/bench/results"
)

// A Setup is what connects the containers of a bed: tapestry, or what it is compared with.
type Setup interface {
	// Name is how results call it; tapestry's is results.Tapestry.
	Name() string
	// Missing says what this machine lacks for it, "" if nothing.
	Missing() string
	// Create makes the network on one host, up to the link to the other host if there are two. Host 1 comes first.
	Create(ctx context.Context, h Host) error
	// AddContainer makes container n, 1 or 2, on the network. It may return a container together with an error: the
	// container is then closed with the bed.
	AddContainer(ctx context.Context, h Host, n int) (*Node, error)
}

// lacks says which of the tools are not there, and which Debian package has them.
func lacks(debian string, tools ...string) string {
	var missing []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if missing == nil {
		return ""
	}
	return fmt.Sprintf("needs %s (Debian: apt-get install %s)", strings.Join(missing, ", "), debian)
}

// Kernel is the kernel's own bridge with veth pairs, as Docker's bridge driver makes it. With two hosts one of its ports
// is a VXLAN device, as Docker's overlay makes it.
type Kernel struct{ TwoHosts bool }

func (k Kernel) Name() string {
	if k.TwoHosts {
		return "kernel VXLAN"
	}
	return "kernel bridge"
}

func (Kernel) Missing() string { return "" }

func (k Kernel) Create(ctx context.Context, h Host) error {
	err := h.sh(ctx, "ip link add br0 type bridge; ip link set br0 up")
	if err != nil || !k.TwoHosts {
		return err
	}
	return h.sh(ctx, `ip link add vx0 type vxlan id 77 dstport 4789 dev underlay local 192.0.2.%d remote 192.0.2.%d
		ip link set vx0 master br0 up`, h.number, 3-h.number)
}

func (Kernel) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	if err := h.veth(ctx, n); err != nil {
		return nil, err
	}
	if err := h.sh(ctx, "ip link set v%d master br0 up", n); err != nil {
		return nil, err
	}
	return h.addContainer(ctx, n, fmt.Sprintf("c%d", n))
}

// veth makes the pair vN, which stays on the host, and cN, the container's end. With two hosts its MTU leaves room for
// inner Ethernet, VXLAN, UDP and IPv4: 50 bytes, RFC 7348 §5.
func (h Host) veth(ctx context.Context, n int) error {
	mtu := 1500
	if h.twoHosts {
		mtu -= 50
	}
	return h.sh(ctx, "ip link add v%[1]d mtu %[2]d type veth peer name c%[1]d mtu %[2]d", n, mtu)
}

// Tapestry is a daemon on each host. The bench asks it over its plugin socket for what dockerd would ask for.
type Tapestry struct {
	Binary string // absolute path
}

const (
	networkName = "bench" // its id with the driver, and its name with Docker
	pluginDir   = "/run/docker/plugins"
)

type object = map[string]any

func (Tapestry) Name() string    { return results.Tapestry }
func (Tapestry) Missing() string { return "" }

// commandLine is the command line of a host's daemon, with the options of the network.
func (t Tapestry) commandLine(h Host) (args []string, options map[string]string) {
	args = []string{t.Binary, "run", "--plugin-dir", pluginDir, "--state-dir", "/run/tapestry-state", "--api-socket", "/run/tapestry.sock"}
	options = map[string]string{}
	if h.twoHosts {
		args = append(args, "--vtep", fmt.Sprintf("192.0.2.%d", h.number))
		options["tapestry.vni"] = "77"
		options["tapestry.peers"] = fmt.Sprintf("192.0.2.%d", 3-h.number)
	}
	return args, options
}

func (t Tapestry) Create(ctx context.Context, h Host) error { return t.start(ctx, h) }

// start starts the daemon, with further flags, and makes the network.
func (t Tapestry) start(ctx context.Context, h Host, flags ...string) error {
	args, options := t.commandLine(h)
	if err := h.start(ctx, "msg=ready", append(args, flags...)...); err != nil {
		return err
	}
	_, err := call(ctx, h, "CreateNetwork", object{
		"NetworkID": networkName,
		"Options":   object{"com.docker.network.generic": options},
		"IPv4Data":  []object{{"AddressSpace": "LocalDefault", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.254/24"}},
		"IPv6Data":  []object{{"AddressSpace": "LocalDefault", "Pool": "fd77::/64", "Gateway": "fd77::fe/64"}},
	})
	return err
}

func (Tapestry) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	endpoint := fmt.Sprintf("%s%d", networkName, n)
	_, err := call(ctx, h, "CreateEndpoint", object{
		"NetworkID": networkName, "EndpointID": endpoint,
		"Interface": object{"Address": fmt.Sprintf("10.77.0.%d/24", n), "AddressIPv6": fmt.Sprintf("fd77::%d/64", n)},
	})
	if err != nil {
		return nil, err
	}
	joined, err := call(ctx, h, "Join", object{
		"NetworkID": networkName, "EndpointID": endpoint, "SandboxKey": "/run/docker/netns/" + endpoint,
	})
	if err != nil {
		return nil, err
	}
	return h.addContainer(ctx, n, joined.InterfaceName.SrcName)
}

// reply is what the bench needs of the driver's replies.
type reply struct {
	Err           string
	InterfaceName struct{ SrcName string } // of Join
}

// call sends a request of Docker's driver protocol to the daemon of a host.
func call(ctx context.Context, h Host, method string, request object) (r reply, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/NetworkDriver."+method, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.pluginDir, "tapestry.sock"))
		},
	}}
	res, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		return r, fmt.Errorf("read the answer to %s: %w", method, err)
	}
	if r.Err != "" {
		return r, fmt.Errorf("%s: %s", method, r.Err)
	}
	return r, nil
}
