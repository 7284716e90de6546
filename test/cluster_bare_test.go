package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A bare host is one of a cluster without a Docker: the test asks tapestry what a dockerd would, which costs a hundredth of it, so
// that hosts may be many and what happens to them may happen often.
type bare struct {
	*Host
	number int // from 1; its address is 192.0.2.NUMBER
	made   int // containers so far
}

func (h *bare) addr() string { return fmt.Sprintf("192.0.2.%d", h.number) }

// A bareContainer is a network namespace.
type bareContainer struct {
	on            *bare
	name, network string // network: its key
	addr          string
}

func (c *bareContainer) id() string { return bareID(c.name) }

// newBareHosts makes hosts on one bridge, called NAME1, NAME2, …, and one outside of the cluster: 192.0.2.254.
func newBareHosts(t *testing.T, name string, size int, before func(outside *Host), flags ...string) (hosts []*bare, outside *Host) {
	t.Helper()
	outside = newHost(t, name+"-outside")
	lan := []string{"lan", outside.name}
	for i := range size {
		h := &bare{Host: newHost(t, fmt.Sprintf("%s%d", name, i+1)), number: i + 1}
		h.flags = flags
		hosts = append(hosts, h)
		lan = append(lan, h.name)
	}
	script(t, lan...)
	before(outside)
	for _, h := range hosts {
		h.startDaemon(t)
	}
	return hosts, outside
}

// ask sends a request as dockerd does. The reply is put into v; an error is what tapestry refuses with.
func (h *bare) ask(method string, request map[string]any, v any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	status, reply, err := h.trySend(h.socket(), "/"+method, "", string(body))
	if err != nil {
		return err
	}
	var refused struct{ Err string }
	if err := json.Unmarshal([]byte(reply), &refused); err != nil {
		return fmt.Errorf("%s: %d %s", method, status, reply)
	}
	if status != 200 || refused.Err != "" {
		return fmt.Errorf("%s: %s", method, refused.Err)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal([]byte(reply), v)
}

func bareNetwork(key string) string { return bareID(key) }

// bareID is an id as Docker makes them, which begins differently for each name.
func bareID(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }

// pool is how Docker's requests call a network's addresses.
func pool(key, subnet string) map[string]any {
	return map[string]any{"AddressSpace": "tapestry", "Pool": subnet, "Options": map[string]string{"tapestry.network": key}}
}

// create makes a network. With own, addresses are the test's own business (gossip).
func (h *bare) create(key, subnet string, own bool) error {
	space := "LocalDefault"
	if !own {
		space = "tapestry"
		if err := h.ask("IpamDriver.RequestPool", pool(key, subnet), nil); err != nil {
			return err
		}
	}
	return h.ask("NetworkDriver.CreateNetwork", map[string]any{
		"NetworkID": bareNetwork(key), "Options": map[string]any{"com.docker.network.generic": map[string]string{"tapestry.network": key}},
		"IPv4Data": []any{map[string]any{"AddressSpace": space, "Pool": subnet, "Gateway": gatewayOf(subnet)}},
	}, nil)
}

func gatewayOf(subnet string) string {
	p := netip.MustParsePrefix(subnet)
	return netip.PrefixFrom(p.Addr().Next(), p.Bits()).String()
}

// remove removes a network without containers.
func (h *bare) remove(key, subnet string, own bool) error {
	err := h.ask("NetworkDriver.DeleteNetwork", map[string]any{"NetworkID": bareNetwork(key)}, nil)
	if err == nil && !own {
		var opened struct{ PoolID string }
		if err = h.ask("IpamDriver.RequestPool", pool(key, subnet), &opened); err == nil {
			err = h.ask("IpamDriver.ReleasePool", map[string]any{"PoolID": opened.PoolID}, nil)
		}
	}
	return err
}

// start starts a container, with an address of its choice, or "": one that tapestry's IPAM gives.
func (h *bare) start(key, subnet, addr string) (c *bareContainer, err error) {
	h.made++
	c = &bareContainer{on: h, name: fmt.Sprintf("%s-%d", h.name, h.made), network: key, addr: addr}
	if addr == "" {
		var given struct{ Address string }
		if err := h.ask("IpamDriver.RequestAddress", map[string]any{"PoolID": "local|" + key + "|" + subnet}, &given); err != nil {
			return nil, err
		}
		c.addr, _, _ = strings.Cut(given.Address, "/")
	}
	_, bits, _ := strings.Cut(subnet, "/")
	ids := func(more map[string]any) map[string]any {
		more["NetworkID"], more["EndpointID"] = bareNetwork(key), c.id()
		return more
	}
	if err := h.ask("NetworkDriver.CreateEndpoint", ids(map[string]any{"Interface": map[string]string{"Address": c.addr + "/" + bits}}), nil); err != nil {
		return nil, err
	}
	var joined struct{ InterfaceName struct{ SrcName string } }
	if err := h.ask("NetworkDriver.Join", ids(map[string]any{"SandboxKey": "/run/netns/" + c.name}), &joined); err != nil {
		return nil, err
	}
	_, err = h.try("sh", "-ec", `ip netns add "$1"; ip link set "$2" netns "$1"; ip -n "$1" link set "$2" name eth0
		ip -n "$1" address add "$3" dev eth0; ip -n "$1" link set eth0 up; ip -n "$1" link set lo up`, "sh", c.name, joined.InterfaceName.SrcName, c.addr+"/"+bits)
	return c, err
}

// stop ends a container; its address is given back if ipam is tapestry's.
func (c *bareContainer) stop(subnet string, own bool) error {
	ids := map[string]any{"NetworkID": bareNetwork(c.network), "EndpointID": c.id()}
	for _, method := range []string{"Leave", "DeleteEndpoint"} {
		if err := c.on.ask("NetworkDriver."+method, ids, nil); err != nil {
			return err
		}
	}
	if !own {
		if err := c.on.ask("IpamDriver.ReleaseAddress", map[string]any{"PoolID": "local|" + c.network + "|" + subnet, "Address": c.addr}, nil); err != nil {
			return err
		}
	}
	_, err := c.on.try("ip", "netns", "delete", c.name)
	return err
}

// ping sends pings until the first reply.
func (c *bareContainer) ping(t *testing.T, to string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		_, err := c.on.try("ip", "netns", "exec", c.name, "ping", "-n", "-q", "-c1", "-W2", to)
		return err
	})
}

// pings sends pings, five a second, until the test signals it.
func (c *bareContainer) pings(t *testing.T, to string) *background {
	t.Helper()
	return c.on.background(t, "", "ip", "netns", "exec", c.name, "ping", "-n", "-i", "0.2", "-W20", to)
}

// end ends pings and returns what they said.
func (b *background) end(t *testing.T) string {
	t.Helper()
	b.signal(syscall.SIGINT)
	said, _ := b.wait(t)
	return said
}

// newKey writes a new key for a cluster of kind gossip.
func (h *Host) newKey(t *testing.T, path string) {
	t.Helper()
	testhost.Must(t, os.WriteFile(path, []byte(h.tapestry(t, "cluster", "key", "new")), 0o600))
}

const etcdEndpoint = "http://192.0.2.254:2379"

// An etcdServer is a real etcd on a host that has the address 192.0.2.254.
type etcdServer struct {
	on  *Host
	cmd *background
}

func (e *etcdServer) start(t *testing.T) {
	t.Helper()
	dir := e.on.dir
	e.cmd = e.on.background(t, "", "sh", "-c", `echo $$ >"$1"; shift; exec "$@"`, "sh", dir+"/etcd.pid", "etcd", "--name", "one", "--data-dir", dir+"/etcd", "--listen-client-urls", etcdEndpoint,
		"--advertise-client-urls", etcdEndpoint, "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync")
	testhost.Eventually(t, patience, func() error {
		_, err := e.on.try("busybox", "wget", "-q", "-O", "-", etcdEndpoint+"/health")
		return err
	})
}

// stop kills it.
func (e *etcdServer) stop(t *testing.T) {
	e.on.in(t, "sh", "-c", `kill -9 "$(cat "$1")"`, "sh", e.on.dir+"/etcd.pid")
	e.cmd.cmd.Wait() // killed
}
