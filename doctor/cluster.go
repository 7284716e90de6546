package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// examineCluster checks the cluster that this host is in, and whether Docker asks the resolver; on a host in none it reports nothing.
func (d *Doctor) examineCluster(ctx context.Context, networks []api.Network, peers []api.Peer, tests []api.PeerTest, names *docker.Engine, report func([]Finding)) {
	var c api.Cluster
	err := d.Call(ctx, http.MethodGet, api.ClusterPath, nil, &c)
	if err != nil {
		report([]Finding{{"cluster", Warn, "not known: " + err.Error(), d.supervisor.Restart()}})
		return
	}
	if c.Kind == "" {
		return
	}
	report(checkCluster(&c, peers, tests, time.Now()))
	if slices.ContainsFunc(networks, func(n api.Network) bool { return n.Key != "" }) {
		report([]Finding{d.checkResolver(ctx, networks, names)})
	}
}

// checkCluster reports what the daemon says of its cluster: whether it reaches it, contradictions, hosts that one of cluster and tunnel
// reaches and the other does not, and blocks that are nearly full.
func checkCluster(c *api.Cluster, peers []api.Peer, tests []api.PeerTest, now time.Time) (all []Finding) {
	if !c.Reachable {
		all = append(all, checkReached(c, now))
	}
	for _, p := range c.Problems {
		all = append(all, Finding{"cluster", Warn, p, problemRemedy(p)})
	}
	all = append(all, checkSeats(c, peers, tests)...)
	all = append(all, checkBlocks(c)...)
	if all == nil {
		var away []string
		for _, state := range []string{"gone", "suspect"} {
			var names []string
			for _, h := range c.Hosts {
				if h.State == state {
					names = append(names, h.Name)
				}
			}
			if names != nil {
				away = append(away, state+": "+strings.Join(names, ", "))
			}
		}
		if away == nil {
			away = []string{"all there"}
		}
		what := c.Name + " by " + c.Kind
		if c.Name == "" {
			what = "Docker's Swarm, as Docker has told of it"
		}
		all = []Finding{{Check: "cluster", State: OK, Seen: fmt.Sprintf("%s: %s, %s", what, human.Plural(len(c.Hosts), "host"), strings.Join(away, "; "))}}
	}
	return all
}

// checkReached is the finding of a cluster that cannot be reached.
func checkReached(c *api.Cluster, now time.Time) Finding {
	f := Finding{Check: "cluster", State: Warn, Remedy: "tapestry cluster status shows when it is back: it is tried again by itself"}
	since := ""
	if !c.Since.IsZero() {
		since = ", for " + human.Age(int64(now.Sub(c.Since)/time.Second))
	}
	goesOn := "Traffic goes on, also to containers that start while this host's blocks have addresses; a network with a new name and a new block are refused"
	if c.Kind == "gossip" {
		goesOn = "Traffic goes on to the hosts that are known and answer over the tunnel; what changes on other hosts is not known here"
		f.Remedy = "let UDP and TCP of --cluster-bind (port 7948) pass between the hosts, and give each the same key and a --join of one that runs"
	}
	f.Seen = fmt.Sprintf("%s cannot be reached%s: %s. %s", c.Kind, since, c.Why, goesOn)
	if strings.Contains(c.Why, "expired") || strings.Contains(c.Why, "not yet valid") { // crypto/x509, of a certificate
		f.Remedy = "compare the clocks: date -u, here and at etcd. If they agree, the certificate has to be made anew (openssl x509 -noout -dates -in FILE)"
	}
	return f
}

// problemRemedy is the remedy for a contradiction between hosts, as cluster.Directory.Problems words it.
func problemRemedy(problem string) string {
	switch {
	case strings.Contains(problem, "have one name"):
		return "hostnamectl set-hostname NAME on one of them, and restart its daemon"
	case strings.Contains(problem, "have one address"):
		return "start one of them with its own address: tapestry run --vtep ADDR. One that was set up anew: tapestry cluster forget HOST, the one that is gone"
	case strings.Contains(problem, "gives out"):
		return "docker network rm and create on one of them, with an --ip-range of its own or --ipam-driver tapestry"
	}
	return "docker network rm and create on one of them, with the other one's options or another tapestry.network"
}

// checkSeats compares what the cluster says of hosts with what their tunnels answer.
func checkSeats(c *api.Cluster, peers []api.Peer, tests []api.PeerTest) (all []Finding) {
	seen := make(map[string]bool)
	for _, p := range peers {
		i := slices.IndexFunc(tests, func(t api.PeerTest) bool { return t.Addr == p.Addr })
		if p.Host == "" || p.Why != "" || i < 0 || seen[p.Addr] {
			continue // named by a user; or checkPeers has told
		}
		seen[p.Addr] = true
		_, port, _ := net.SplitHostPort(p.Addr)
		switch answers := tests[i].Answers; {
		case p.HostState == "alive" && !answers:
			all = append(all, Finding{"cluster", Warn, fmt.Sprintf("host %s is alive in the cluster, and its tunnel at %s does not answer", p.Host, p.Addr),
				fmt.Sprintf("let UDP port %s pass the firewalls of both; on %s, tapestry peers must show this host: else it does not know it, see tapestry doctor there", port, p.Host)})
		case p.HostState == "gone" && answers:
			all = append(all, Finding{"cluster", Warn, fmt.Sprintf("host %s is gone, as the cluster says, and answers over the tunnel: frames go there, and nobody learns what changes on it", p.Host),
				map[string]string{"gossip": "let UDP and TCP of --cluster-bind (port 7948) pass between the hosts; has it the same key? ", "etcd": "does it reach etcd? "}[c.Kind] + "Its log tells: on " + p.Host + ", tapestry doctor"})
		}
	}
	return all
}

// checkBlocks reports networks whose blocks of this host are nearly full though a new one should have come.
func checkBlocks(c *api.Cluster) (all []Finding) {
	type count struct{ used, room uint64 }
	counts := make(map[string]count) // by network
	var order []string
	for _, b := range c.Blocks {
		p, err := netip.ParsePrefix(b.Block)
		if b.Used == nil || err != nil || !p.Addr().Is4() {
			continue
		}
		if _, ok := counts[b.Network]; !ok {
			order = append(order, b.Network)
		}
		n := counts[b.Network]
		counts[b.Network] = count{n.used + uint64(*b.Used), n.room + 1<<(32-p.Bits())}
	}
	for _, key := range order {
		n := counts[key]
		if n.used*10 <= n.room*9 {
			continue
		}
		f := Finding{"cluster", Warn, fmt.Sprintf("network %s: %d of %d addresses of this host's blocks are in use", key, n.used, n.room),
			"tapestry cluster blocks shows whose the others are; tapestry cluster forget HOST frees those of a host that will not come back. A larger network needs a new --subnet"}
		if !c.Reachable {
			f.Seen += ", and no new one can be claimed: when they are full, containers are refused"
			f.Remedy = "have the cluster back before that: see above"
		} else {
			f.Seen += ", and no new one was claimed: the subnet may have none left"
		}
		all = append(all, f)
	}
	return all
}

// dnsWait is how long doctor waits for an answer of a DNS server.
const dnsWait = 2 * time.Second

// lookup asks one DNS server for the addresses of a name.
func lookup(ctx context.Context, server netip.Addr, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsWait)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
	return r.LookupNetIP(ctx, "ip", name+".")
}

// checkResolver checks whether the DNS servers that Docker hands to containers are tapestry resolver, and whether that answers.
func (d *Doctor) checkResolver(ctx context.Context, networks []api.Network, names *docker.Engine) Finding {
	path := filepath.Join(d.Root, "etc/docker/daemon.json")
	var told struct {
		DNS []netip.Addr `json:"dns"`
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	f := Finding{Check: "resolver", State: Warn}
	line := fmt.Sprintf(`with {"dns": ["%s", "ADDR"]} in %s, ADDR being a server of yours, and Docker restarted (docs/names.md)`, d.bridgeAddr(), path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		f.Seen, f.Remedy = fmt.Sprintf("which DNS servers Docker asks is not known: read %s: %v", path, exit.WithoutURL(err)), "mend that file: Docker does not start with it, either"
		return f
	case len(told.DNS) == 0:
		f.Seen = fmt.Sprintf("Docker does not ask tapestry resolver, since %s has no dns: containers find those of other hosts by address only, unless each has a --dns", path)
		f.Remedy = "for names: systemctl enable --now tapestry-resolver, " + line
		return f
	}
	name, want := d.knownName(ctx, networks, names)
	if name == "" {
		return Finding{Check: "resolver", State: OK, Seen: "not tried: no container is on a network that hosts share"}
	}
	var silent []string
	for _, a := range told.DNS {
		got, err := d.Lookup(ctx, a, name)
		var dns *net.DNSError
		switch {
		case err == nil && slices.ContainsFunc(got, func(g netip.Addr) bool { return slices.Contains(want, g.Unmap()) }):
			return Finding{Check: "resolver", State: OK, Seen: fmt.Sprintf("Docker asks tapestry resolver at %s, which knows %s", a, name)}
		case err != nil && !(errors.As(err, &dns) && dns.IsNotFound):
			silent = append(silent, a.String())
		}
	}
	if silent != nil {
		f.Seen = fmt.Sprintf("Docker asks %s first or later, where nothing answers: names of containers on other hosts are not found", strings.Join(silent, " and "))
		f.Remedy = "systemctl enable --now tapestry-resolver; tapestry resolver's log says at which addresses it answers"
		return f
	}
	f.Seen = fmt.Sprintf("Docker does not ask tapestry resolver: no server of dns in %s knows %s", path, name)
	f.Remedy = "systemctl enable --now tapestry-resolver, " + line
	return f
}

// bridgeAddr is the address of Docker's own bridge, at which the resolver answers.
func (d *Doctor) bridgeAddr() string {
	if link, err := d.Link("docker0"); err == nil {
		addrs, _ := link.Addrs() // none: the usual one
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				return p.Addr().String()
			}
		}
	}
	return "172.17.0.1"
}

// knownName is a name that the resolver must know, with its addresses; "": there is none.
func (d *Doctor) knownName(ctx context.Context, networks []api.Network, names *docker.Engine) (name string, addrs []netip.Addr) {
	if e, err := docker.FindElsewhere(ctx, d.Client, names); err == nil {
		for _, o := range e.Others {
			if !o.Gone {
				return o.Name + "." + o.Key, o.Addrs
			}
		}
	}
	for _, n := range networks {
		if n.Key == "" {
			continue
		}
		if name, addrs := names.OneOn(ctx, n.ID); name != "" {
			return name + "." + n.Key, addrs
		}
	}
	return "", nil
}
