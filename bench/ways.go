package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
)

// A site is a host that has containers, alone or one of two.
type site struct {
	*host
	n      int    // 1 or 2
	across bool   // there is another, 192.0.2.(3-n), and this one is 192.0.2.n on the link underlay (MTU 1500)
	dir    string // for its files
}

// A way makes networks for containers.
type way interface {
	// open makes the network on a site, as far as the other one if there is one.
	open(ctx context.Context, s site) error
	// port makes a link for container n, 10.77.0.n/24, and gives its name. It waits in s to be moved.
	port(ctx context.Context, s site, n int) (link string, err error)
}

// kernel is the kernel's own way: a bridge with veth pairs, as Docker's bridge driver makes it. Across, one of its
// ports is a VXLAN device, as Docker's overlay makes it.
type kernel struct{}

func (kernel) open(ctx context.Context, s site) error {
	err := s.sh(ctx, "ip link add br0 type bridge; ip link set br0 up")
	if err != nil || !s.across {
		return err
	}
	return s.sh(ctx, `ip link add vx0 type vxlan id 77 dstport 4789 dev underlay local 192.0.2.%d remote 192.0.2.%d
		ip link set vx0 master br0 up`, s.n, 3-s.n)
}

func (kernel) port(ctx context.Context, s site, n int) (string, error) {
	mtu := 1500
	if s.across {
		mtu -= 50 // inner Ethernet, VXLAN, UDP, IPv4: RFC 7348 §5
	}
	link := fmt.Sprintf("c%d", n)
	return link, s.sh(ctx, `ip link add v%[1]d mtu %[2]d type veth peer name c%[1]d mtu %[2]d
		ip link set v%[1]d master br0 up`, n, mtu)
}

// tapestry is a daemon on each site, asked over its plugin socket for what dockerd would ask for.
type tapestry struct {
	binary string // absolute path
}

const network = "bench" // its id with the driver

type object = map[string]any

func (t tapestry) open(ctx context.Context, s site) error {
	args := []string{t.binary, "run", "--plugin-dir", s.dir, "--state-dir", s.dir + "/state", "--api-socket", s.dir + "/api.sock"}
	options := map[string]string{}
	if s.across {
		args = append(args, "--vtep", fmt.Sprintf("192.0.2.%d", s.n))
		options["tapestry.vni"] = "77"
		options["tapestry.peers"] = fmt.Sprintf("192.0.2.%d", 3-s.n)
	}
	if err := s.start(ctx, "msg=ready", args...); err != nil {
		return err
	}
	_, err := call(ctx, s, "CreateNetwork", object{
		"NetworkID": network,
		"Options":   object{"com.docker.network.generic": options},
		"IPv4Data":  []object{{"AddressSpace": "LocalDefault", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.254/24"}},
	})
	return err
}

func (tapestry) port(ctx context.Context, s site, n int) (string, error) {
	endpoint := fmt.Sprintf("%s%d", network, n)
	_, err := call(ctx, s, "CreateEndpoint", object{
		"NetworkID": network, "EndpointID": endpoint, "Interface": object{"Address": fmt.Sprintf("10.77.0.%d/24", n)},
	})
	if err != nil {
		return "", err
	}
	joined, err := call(ctx, s, "Join", object{
		"NetworkID": network, "EndpointID": endpoint, "SandboxKey": "/run/docker/netns/" + endpoint,
	})
	return joined.InterfaceName.SrcName, err
}

// reply is what the bench reads of the driver's answers.
type reply struct {
	Err           string
	InterfaceName struct{ SrcName string } // of Join
}

// call asks the daemon of a site.
func call(ctx context.Context, s site, method string, request object) (r reply, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/NetworkDriver."+method, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "tapestry.sock"))
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
