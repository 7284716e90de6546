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
)

// A Setup makes networks for containers.
type Setup interface {
	Name() string
	// missing says what this machine lacks for it, "" if nothing.
	Missing() string
	// open makes the network on a site, as far as the other one if there is one. Site 1 is opened first.
	Create(ctx context.Context, s Host) error
	// container makes container n on the network. It may give a container and an error.
	AddContainer(ctx context.Context, s Host, n int) (*Node, error)
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

// Kernel is the kernel's own way: a bridge with veth pairs, as Docker's bridge driver makes it. Across, one of its
// ports is a VXLAN device, as Docker's overlay makes it.
type Kernel struct{ TwoHosts bool }

func (k Kernel) Name() string {
	if k.TwoHosts {
		return "kernel VXLAN"
	}
	return "kernel bridge"
}

func (Kernel) Missing() string { return "" }

func (k Kernel) Create(ctx context.Context, s Host) error {
	err := s.sh(ctx, "ip link add br0 type bridge; ip link set br0 up")
	if err != nil || !k.TwoHosts {
		return err
	}
	return s.sh(ctx, `ip link add vx0 type vxlan id 77 dstport 4789 dev underlay local 192.0.2.%d remote 192.0.2.%d
		ip link set vx0 master br0 up`, s.number, 3-s.number)
}

func (Kernel) AddContainer(ctx context.Context, s Host, n int) (*Node, error) {
	if err := s.veth(ctx, n); err != nil {
		return nil, err
	}
	if err := s.sh(ctx, "ip link set v%d master br0 up", n); err != nil {
		return nil, err
	}
	return s.addContainer(ctx, n, fmt.Sprintf("c%d", n))
}

// veth makes the pair vN, which stays, and cN, the container's end. Across, its MTU leaves room for inner Ethernet,
// VXLAN, UDP and IPv4: 50 bytes, RFC 7348 §5.
func (s Host) veth(ctx context.Context, n int) error {
	mtu := 1500
	if s.twoHosts {
		mtu -= 50
	}
	return s.sh(ctx, "ip link add v%[1]d mtu %[2]d type veth peer name c%[1]d mtu %[2]d", n, mtu)
}

// Tapestry is a daemon on each site, asked over its plugin socket for what dockerd would ask for.
type Tapestry struct {
	Binary string // absolute path
}

const (
	networkName = "bench" // its id with the driver, and its name with Docker
	pluginDir   = "/run/docker/plugins"
)

type object = map[string]any

func (Tapestry) Name() string    { return "tapestry" }
func (Tapestry) Missing() string { return "" }

// commandLine is the command line of a site's daemon, and options are those of the network.
func (t Tapestry) commandLine(s Host) (args []string, options map[string]string) {
	args = []string{t.Binary, "run", "--plugin-dir", pluginDir, "--state-dir", "/run/tapestry-state", "--api-socket", "/run/tapestry.sock"}
	options = map[string]string{}
	if s.twoHosts {
		args = append(args, "--vtep", fmt.Sprintf("192.0.2.%d", s.number))
		options["tapestry.vni"] = "77"
		options["tapestry.peers"] = fmt.Sprintf("192.0.2.%d", 3-s.number)
	}
	return args, options
}

func (t Tapestry) Create(ctx context.Context, s Host) error { return t.start(ctx, s) }

// start starts the daemon, with further flags, and makes the network.
func (t Tapestry) start(ctx context.Context, s Host, flags ...string) error {
	args, options := t.commandLine(s)
	if err := s.start(ctx, "msg=ready", append(args, flags...)...); err != nil {
		return err
	}
	_, err := call(ctx, s, "CreateNetwork", object{
		"NetworkID": networkName,
		"Options":   object{"com.docker.network.generic": options},
		"IPv4Data":  []object{{"AddressSpace": "LocalDefault", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.254/24"}},
		"IPv6Data":  []object{{"AddressSpace": "LocalDefault", "Pool": "fd77::/64", "Gateway": "fd77::fe/64"}},
	})
	return err
}

func (Tapestry) AddContainer(ctx context.Context, s Host, n int) (*Node, error) {
	endpoint := fmt.Sprintf("%s%d", networkName, n)
	_, err := call(ctx, s, "CreateEndpoint", object{
		"NetworkID": networkName, "EndpointID": endpoint,
		"Interface": object{"Address": fmt.Sprintf("10.77.0.%d/24", n), "AddressIPv6": fmt.Sprintf("fd77::%d/64", n)},
	})
	if err != nil {
		return nil, err
	}
	joined, err := call(ctx, s, "Join", object{
		"NetworkID": networkName, "EndpointID": endpoint, "SandboxKey": "/run/docker/netns/" + endpoint,
	})
	if err != nil {
		return nil, err
	}
	return s.addContainer(ctx, n, joined.InterfaceName.SrcName)
}

// reply is what the bench reads of the driver's answers.
type reply struct {
	Err           string
	InterfaceName struct{ SrcName string } // of Join
}

// call asks the daemon of a site.
func call(ctx context.Context, s Host, method string, request object) (r reply, err error) {
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
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.pluginDir, "tapestry.sock"))
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
