package plugin

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/fabric"
)

// Options of other drivers, of docker network create itself, or similar to one of tapestry's. If they were ignored, users would
// believe that they have what they asked for. So options that change who can reach whom are refused, with what to write instead.
// Options that ask for what is the case anyway are accepted, and so are unknown ones: daemons and tools add options of their
// own.

// dockerSpace begins the keys of Docker's own drivers.
const dockerSpace = "com.docker.network."

// A foreignOption is recognised by its last word, alone or after com.docker.network.: users leave the rest away, and mix up
// '.', '_', '-' and capitals.
type foreignOption struct {
	words   string                  // as normalize writes them, separated by blanks
	allowed func(value string) bool // values that change nothing, and are accepted; nil: none
	hint    string                  // what is wrong, and what would be right
}

// foreignOptions lists what is refused, for `docker network create` of Docker 20.10 to 29, Podman, and Weave's plugin.
// What is known and harmless is not here: com.docker.network.bridge.inhibit_ipv4 and default_bridge (there is no bridge),
// com.docker.network.advertise_addr_nmsgs and _ms (Docker itself obeys), works.weave.multicast (multicast always works).
func foreignOptions() []foreignOption {
	flag := func(word, flag string, fine func(string) bool) foreignOption {
		return foreignOption{word, fine, "this is no option but a flag of docker network create: " + flag}
	}
	mean := func(words, key string) foreignOption {
		return foreignOption{words, nil, "no such option; did you mean " + key + "?"}
	}
	return []foreignOption{
		mean("vni vnid vxlan vxlanid vxlanvni vxlanidlist segmentid tunnelid", optVNI),
		mean("mtu", optMTU),
		mean("remote remotes vteps", optPeers),

		flag("internal", "--internal", off),
		flag("subnet subnets", "--subnet", nil),
		flag("gateway", "--gateway", nil),
		flag("iprange", "--ip-range", nil),
		flag("auxaddress", "--aux-address", nil),
		flag("ipv6", "--ipv6", off),
		flag("ipamdriver", "--ipam-driver", nil),

		{"enableicc icc", on,
			"the containers of a tapestry network all reach each other; leave the option away, and give those that must not a network of their own"},
		{"hostbindingipv4 hostbindingipv6", func(v string) bool { a, err := netip.ParseAddr(v); return err == nil && a.IsUnspecified() },
			"ports are published through docker_gwbridge, for every address of this host; leave the option away, and give the address with each port, as in docker run -p 127.0.0.1:8080:80"},
		{"enableipmasquerade ipmasq ipmasquerade", on,
			"traffic to the outside leaves by docker_gwbridge, which masquerades if it was made so; leave the option away, and make that network beforehand with it, or disable it, -o " + optExternal + "=off"},
		{"gatewaymodeipv4 gatewaymodeipv6", func(v string) bool { return v == "nat" },
			"containers reach the outside, and are reached, by NAT through docker_gwbridge, or not at all with -o " + optExternal + "=off; leave the option away"},
		{"trustedhostinterfaces", func(v string) bool { return v == "" },
			"ports are published through docker_gwbridge; leave the option away, and make that network beforehand with it"},
		{"hostipv4 hostipv6", nil,
			"traffic to the outside leaves by docker_gwbridge, whose source address is not this network's to choose; leave the option away, and make that network beforehand with it"},
		{"bridgename", nil,
			"a tapestry network has no bridge, so a firewall's rule for that name would match nothing; leave the option away (tapestry ports --json names each container's link)"},
		{"isolate", func(string) bool { return true }, ""}, // and not what is isolated with tapestry.isolated
		{"nodefaultroute", off, "did you mean -o " + optExternal + "=off?"},

		{"parent", nil,
			"a tapestry network is tied to no link of this host; leave the option away, or use Docker's macvlan or ipvlan driver; to join hosts, -o " + optVNI + "=NUMBER -o " + optPeers + "=ADDRESS"},
		{"vlan vlanid", nil,
			"a tapestry network is tied to no VLAN of this host's links; leave the option away: each network is apart from the others"},
		{"macvlanmode ipvlanflag", func(v string) bool { return v == "bridge" },
			"the containers of a tapestry network all reach each other; leave the option away"},
		{"ipvlanmode", func(v string) bool { return v == "l2" },
			"a tapestry network is a layer 2; leave the option away"},

		{"encrypted encrypt encryption ipsec password", off, notEncrypted},
	}
}

func on(value string) bool  { b, err := strconv.ParseBool(value); return err == nil && b }
func off(value string) bool { b, err := strconv.ParseBool(value); return err == nil && !b }

// refuseForeign refuses options of other drivers. given are the --opt options; all are the request's, where Docker itself adds
// keys, of com.docker.network. only.
func refuseForeign(all, given map[string]any) error {
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(k, dockerSpace) {
			if slices.ContainsFunc(networkOptions(), func(o option[fabric.Network]) bool { return o.key == k }) {
				return fmt.Errorf("%s stands beside %s; it belongs into that", k, generic)
			}
			if err := refuseOne(all, k); err != nil {
				return err
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if err := refuseOne(given, k); err != nil {
			return err
		}
	}
	// Docker since 28 obeys these two, and repeats them in the request. Older ones do not.
	for family, normal := range map[string]bool{"ipv4": true, "ipv6": false} {
		key := dockerSpace + "enable_" + family
		value, ok, err := stringOption(given, key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		want, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%s=%s: want true or false", key, show(value))
		}
		if is, told := all[key].(bool); want != (told && is || !told && normal) {
			return fmt.Errorf("%s=%s: this Docker does not obey that option; use the flag of docker network create, --%s=%t", key, value, family, want)
		}
	}
	return nil
}

// refuseOne refuses one key if it is a known one of another driver, or similar to one of tapestry's.
func refuseOne(given map[string]any, k string) error {
	lower := strings.ToLower(k)
	known, own := make([]string, 0, 16), ownKeys()
	for _, o := range networkOptions() {
		if o.key == k {
			return nil
		}
		known = append(known, o.key)
	}
	rest, dockers := strings.CutPrefix(lower, dockerSpace)
	if dockers || !strings.Contains(lower, ".") {
		last := normalize(rest[strings.LastIndex(rest, ".")+1:])
		for _, f := range foreignOptions() {
			if words := strings.Fields(f.words); !slices.Contains(words, last) && !slices.Contains(words, normalize(rest)) {
				continue
			}
			value, _, err := stringOption(given, k)
			if err != nil {
				return err
			}
			if f.allowed == nil || !f.allowed(value) {
				return fmt.Errorf("%s=%s: %s", show(k), show(value), f.hint)
			}
			return nil
		}
	}
	near := nearest(lower, known)
	if near == "" && !strings.Contains(lower, ".") {
		near = nearest(ownSpace+lower, own)
	}
	if near == "" && strings.Contains(lower, "tapestry") {
		if near = nearest(ownSpace+lower[strings.LastIndexAny(lower, "._-:/")+1:], own); near == "" {
			return fmt.Errorf("%s: no such option. Known are %s; the MTU is %s", show(k), strings.Join(own, ", "), optMTU)
		}
	}
	if near != "" {
		return fmt.Errorf("%s: no such option; did you mean %s?", show(k), near)
	}
	return nil
}

// normalize keeps the letters and digits of a key only: users mix up '_', '-', '.' and none.
func normalize(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && alphanumeric(byte(r)) {
			return r
		}
		return -1
	}, s)
}
