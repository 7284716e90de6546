package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// What a newer dockerd sends (29.x): fields that 20.10 does not send, empty lists, null maps.
const (
	newCreateNetwork = `{"NetworkID":"` + netID + `","Options":{"com.docker.network.enable_ipv4":true,
		"com.docker.network.enable_ipv6":false,"com.docker.network.internal":false,
		"com.docker.network.generic":{"tapestry.vni":"80"}},
		"IPv4Data":[{"AddressSpace":"LocalDefault","Gateway":"10.77.0.1/24","Pool":"10.77.0.0/24","AuxAddresses":{"host2":"10.77.0.9/24"}}],
		"IPv6Data":null,"SomethingNew":{"a":[1]}}`
	newCreateEndpoint = `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `",
		"Interface":{"Address":"10.77.0.2/24","AddressIPv6":"","MacAddress":""},
		"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],
		"com.docker.network.endpoint.ifname":"lan0","com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1",
		"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":18080,"HostPortEnd":18080}],
		"com.docker.network.endpoint.dnsservers":["192.0.2.53"]}}`
)

func TestNewerDaemon(t *testing.T) {
	for _, tc := range []struct{ name, path, body string }{
		{"create", "CreateNetwork", newCreateNetwork},
		{"create without IPv4", "CreateNetwork", `{"NetworkID":"` + netID + `","Options":{"com.docker.network.enable_ipv4":false,"com.docker.network.enable_ipv6":true},"IPv4Data":[],"IPv6Data":[{"AddressSpace":"","Gateway":"<nil>","Pool":"fd77::/64","AuxAddresses":null}]}`},
		{"create with nulls", "CreateNetwork", `{"NetworkID":"` + netID + `","Options":null,"IPv4Data":null,"IPv6Data":null}`},
		{"create with null generic", "CreateNetwork", `{"NetworkID":"` + netID + `","Options":{"com.docker.network.generic":null}}`},
		{"create in a swarm", "CreateNetwork", `{"NetworkID":"` + nodeNet + `","Options":{}}`},
		{"endpoint", "CreateEndpoint", newCreateEndpoint},
		{"endpoint with nulls", "CreateEndpoint", `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `","Interface":null,"Options":null}`},
		{"endpoint of null IPAM", "CreateEndpoint", `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `","Interface":{"Address":"","AddressIPv6":"<nil>","MacAddress":""}}`},
		{"join with nulls", "Join", `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `","SandboxKey":"/var/run/docker/netns/0123456789ab","Options":null}`},
		{"gateway check", "GwAllocCheck", `{"Options":{"com.docker.network.enable_ipv4":true}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, got := post(t, serving(t, &fakeBackend{}), "/NetworkDriver."+tc.path, tc.body)
			mustWork(t, status, got)
		})
	}
}

func TestAnswersThatNeverChange(t *testing.T) {
	local := map[string]any{"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": true}
	for _, tc := range []struct {
		path, body string
		want       map[string]any
	}{
		{"/Plugin.Activate", "", map[string]any{"Implements": []any{"NetworkDriver", "IpamDriver"}}},
		{"/NetworkDriver.GetCapabilities", "", local},
		{"/NetworkDriver.GwAllocCheck", `{"Options":null}`, map[string]any{"SkipIPv4": true, "SkipIPv6": true}},
		{"/NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.generic":{"tapestry.vni":"80","tapestry.host":"off"}}}`,
			map[string]any{"SkipIPv4": true, "SkipIPv6": true}},
		{"/NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.generic":{"tapestry.host":"on"}}}`, map[string]any{"SkipIPv4": false, "SkipIPv6": false}},
		{"/NetworkDriver.EndpointOperInfo", `{"NetworkID":"nobody","EndpointID":"knows"}`, map[string]any{"Value": map[string]any{}}},
		{"/NetworkDriver.EndpointOperInfo", "", map[string]any{"Value": map[string]any{}}},
		{"/NetworkDriver.ProgramExternalConnectivity", `{"NetworkID":"a","EndpointID":"b","Options":{}}`, map[string]any{}},
		{"/NetworkDriver.RevokeExternalConnectivity", `{"NetworkID":"a","EndpointID":"b"}`, map[string]any{}},
	} {
		t.Run(tc.path, func(t *testing.T) {
			r := &fakeBackend{}
			status, got := post(t, serving(t, r), tc.path, tc.body)
			mustWork(t, status, got)
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if len(r.calls) != 0 {
				t.Errorf("fabric was called: %v", r.calls)
			}
		})
	}
}

// A repeated CreateNetwork must give fabric an equal network, in whatever order its keys come.
func TestRepeatedCreate(t *testing.T) {
	r := &fakeBackend{}
	h := serving(t, r)
	for _, opts := range []string{
		`{"tapestry.vni":"80","tapestry.peers":"192.0.2.2,192.0.2.3"}`,
		`{"tapestry.peers":"192.0.2.2,192.0.2.3","tapestry.vni":"80"}`,
		`{"tapestry.peers":"192.0.2.2","tapestry.vni":"80"}`,
	} {
		status, got := post(t, h, "/NetworkDriver.CreateNetwork", `{"NetworkID":"`+netID+`","Options":{"com.docker.network.generic":`+opts+`}}`)
		mustWork(t, status, got)
	}
	if !reflect.DeepEqual(r.networks[0], r.networks[1]) {
		t.Errorf("equal requests differ:\n%+v\n%+v", r.networks[0], r.networks[1])
	}
	if reflect.DeepEqual(r.networks[0], r.networks[2]) {
		t.Errorf("other data looks equal: %+v", r.networks[2])
	}
}

func TestDriverErrorReachesTheUser(t *testing.T) {
	sentence := "tapestry.vni=80: in use by network 9f1c0a7e; choose another number"
	for path, body := range bodies() {
		t.Run(path, func(t *testing.T) {
			status, got := post(t, serving(t, &fakeBackend{fail: errors.New(sentence)}), path, body)
			mustRefuse(t, status, 200, got, sentence)
		})
	}
}

// bodies has a valid request for each method that reads its body and calls fabric.
func bodies() map[string]string {
	both := `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `"}`
	return map[string]string{
		"/NetworkDriver.CreateNetwork":  newCreateNetwork,
		"/NetworkDriver.DeleteNetwork":  `{"NetworkID":"` + netID + `"}`,
		"/NetworkDriver.CreateEndpoint": newCreateEndpoint,
		"/NetworkDriver.DeleteEndpoint": both,
		"/NetworkDriver.Join":           both,
		"/NetworkDriver.Leave":          both,

		"/NetworkDriver.AllocateNetwork": `{"NetworkID":"` + nodeNet + `","Options":{"tapestry.vni":"80"}}`,
		"/NetworkDriver.FreeNetwork":     `{"NetworkID":"` + nodeNet + `"}`,
		"/NetworkDriver.DiscoverNew":     `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.2"}}`,
		"/NetworkDriver.DiscoverDelete":  `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.2"}}`,
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"", "../../etc/passwd", "a/b", "a b", "a\x00", "é", "-rf", strings.Repeat("a", 129)} {
		for path, body := range bodies() {
			if !strings.Contains(body, "NetworkID") {
				continue
			}
			pairs := []map[string]string{{"NetworkID": id, "EndpointID": epID}}
			if !strings.HasSuffix(path, "Network") {
				pairs = append(pairs, map[string]string{"NetworkID": netID, "EndpointID": id})
			}
			for _, ids := range pairs {
				t.Run(fmt.Sprintf("%s %.20q", path, id), func(t *testing.T) {
					r := &fakeBackend{}
					status, got := post(t, serving(t, r), path, object(t, ids))
					mustRefuse(t, status, 200, got, "ID ", "want 1 to 128 letters and digits")
					if len(r.calls) != 0 {
						t.Errorf("fabric was called: %v", r.calls)
					}
				})
			}
		}
	}
	for _, id := range []string{netID, nodeNet, "a", strings.Repeat("Z", 128)} {
		if err := checkID("NetworkID", id); err != nil {
			t.Error(err)
		}
	}
}

func TestCreateEndpoint(t *testing.T) {
	hashed := ether.MAC{0x02, 0xa8, 0xae, 0x6e, 0x6e, 0xe9} // 02 and sha256(epID)
	for _, tc := range []struct {
		name, in, options string
		want              fabric.Endpoint
		mac               string // in the reply, "": none
	}{
		{"IPv4", `{"Address":"10.77.0.2/24"}`, `{}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0x42, 10, 77, 0, 2}, Addrs: prefixes("10.77.0.2/24")}, "02:42:0a:4d:00:02"},
		{"both families", `{"Address":"10.77.0.2/24","AddressIPv6":"fd77::2/64"}`, `{}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0x42, 10, 77, 0, 2}, Addrs: prefixes("10.77.0.2/24", "fd77::2/64")}, "02:42:0a:4d:00:02"},
		{"IPv6 only", `{"AddressIPv6":"fd77::2/64"}`, `{}`,
			fabric.Endpoint{MAC: hashed, Addrs: prefixes("fd77::2/64")}, hashed.String()},
		{"null IPAM", `null`, `null`, fabric.Endpoint{MAC: hashed}, hashed.String()},
		{"user's MAC", `{"Address":"10.77.0.2/24","MacAddress":"02:aa:bb:cc:dd:01"}`, `{"com.docker.network.endpoint.macaddress":"Aqq7zN0B"}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}, Addrs: prefixes("10.77.0.2/24")}, ""},
		{"base64 MAC alone", `{}`, `{"com.docker.network.endpoint.macaddress":"Aqq7zN0B"}`, fabric.Endpoint{MAC: hashed}, hashed.String()},
		{"own MAC", `{"Address":"10.77.0.2/24"}`, `{"tapestry.mac":"02-AA-bb-cc-dd-02"}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 2}, Addrs: prefixes("10.77.0.2/24")}, "02:aa:bb:cc:dd:02"},
		{"own MAC and Docker's, the same", `{"MacAddress":"02:aa:bb:cc:dd:02"}`, `{"tapestry.mac":"02:aa:bb:cc:dd:02"}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 2}}, ""},
		{"Docker's key, of a user", `{}`, `{"com.docker.network.endpoint.macaddress":"02:aa:bb:cc:dd:03"}`,
			fabric.Endpoint{MAC: ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 3}}, "02:aa:bb:cc:dd:03"},
		{"Docker's key, null", `{}`, `{"com.docker.network.endpoint.macaddress":null}`, fabric.Endpoint{MAC: hashed}, hashed.String()},
		{"capture", `{}`, `{"tapestry.capture":"tcp port 80"}`, fabric.Endpoint{MAC: hashed, Capture: "tcp port 80"}, hashed.String()},
		{"link's name", `{}`, `{"com.docker.network.endpoint.ifname":"lan0","foo":"bar"}`, fabric.Endpoint{MAC: hashed, IfName: "lan0"}, hashed.String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{}
			status, got := post(t, serving(t, r), "/NetworkDriver.CreateEndpoint",
				`{"NetworkID":"`+netID+`","EndpointID":"`+epID+`","Interface":`+tc.in+`,"Options":`+tc.options+`}`)
			mustWork(t, status, got)
			tc.want.ID = epID
			if !reflect.DeepEqual(r.endpoints, []fabric.Endpoint{tc.want}) {
				t.Errorf("fabric was given %+v, want %+v", r.endpoints, tc.want)
			}
			in, _ := got["Interface"].(map[string]any)
			if mac, _ := in["MacAddress"].(string); mac != tc.mac {
				t.Errorf("reply has MacAddress %q, want %q", mac, tc.mac)
			}
			for _, field := range []string{"Address", "AddressIPv6"} {
				if a, _ := in[field].(string); a != "" {
					t.Errorf("reply repeats %s %s", field, a)
				}
			}
		})
	}
}

func prefixes(s ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range s {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestRefusedEndpoints(t *testing.T) {
	for _, tc := range []struct{ name, in, options, want string }{
		{"address without mask", `{"Address":"10.77.0.2"}`, `{}`, "Address 10.77.0.2: want"},
		{"IPv6 as IPv4", `{"Address":"fd77::2/64"}`, `{}`, "Address fd77::2/64: want"},
		{"IPv4 as IPv6", `{"AddressIPv6":"10.77.0.2/24"}`, `{}`, "AddressIPv6 10.77.0.2/24: want"},
		{"mapped", `{"AddressIPv6":"::ffff:10.77.0.2/120"}`, `{}`, "AddressIPv6 ::ffff:10.77.0.2/120: want"},
		{"multicast", `{"Address":"224.0.0.1/24"}`, `{}`, "Address 224.0.0.1/24: want"},
		{"unspecified", `{"Address":"0.0.0.0/24"}`, `{}`, "Address 0.0.0.0/24: want"},
		{"MAC text", `{"MacAddress":"mine"}`, `{}`, "MacAddress mine: want"},
		{"MAC of a group", `{"MacAddress":"01:00:5e:00:00:01"}`, `{}`, "one station's"},
		{"MAC broadcast", `{"MacAddress":"ff:ff:ff:ff:ff:ff"}`, `{}`, "one station's"},
		{"MAC zero", `{"MacAddress":"00:00:00:00:00:00"}`, `{}`, "one station's"},
		{"MAC of eight bytes", `{"MacAddress":"02:00:5e:10:00:00:00:01"}`, `{}`, "one station's"},
		{"name too long", `{}`, `{"com.docker.network.endpoint.ifname":"abcdefghijklmnop"}`, "want 1 to 15"},
		{"name with slash", `{}`, `{"com.docker.network.endpoint.ifname":"../eth0"}`, "want 1 to 15"},
		{"name of dots", `{}`, `{"com.docker.network.endpoint.ifname":".."}`, "want 1 to 15"},
		{"name empty", `{}`, `{"com.docker.network.endpoint.ifname":""}`, "want 1 to 15"},
		{"name as a number", `{}`, `{"com.docker.network.endpoint.ifname":5}`, "want a string, got a number"},
		{"capture empty", `{}`, `{"tapestry.capture":" "}`, "tapestry.capture= : want a filter"},
		{"capture endless", `{}`, `{"tapestry.capture":"` + strings.Repeat("a", 5000) + `"}`, "want a filter as of tcpdump in at most 4096 bytes"},
		{"capture as a number", `{}`, `{"tapestry.capture":5}`, "tapestry.capture: want a string, got a number"},
		{"own guard", `{}`, `{"tapestry.guard":"none"}`, "tapestry.guard=none: want off, mac or full"},
		{"own allow", `{}`, `{"tapestry.allow":"lldp"}`, "tapestry.allow=lldp: "},
		{"own rate", `{}`, `{"tapestry.rate":"fast"}`, "tapestry.rate=fast: want bits a second from 64kbit on, as in 100mbit or 1.5gbit, or off"},
		{"own guard of no text", `{}`, `{"tapestry.guard":true}`, "tapestry.guard: want a string, got a boolean"},
		{"own MAC text", `{}`, `{"tapestry.mac":"mine"}`, "tapestry.mac mine: want one station's"},
		{"own MAC empty", `{}`, `{"tapestry.mac":""}`, "tapestry.mac none: want one station's"},
		{"own MAC of a group", `{}`, `{"tapestry.mac":"03:00:00:00:00:01"}`, "one station's"},
		{"two MACs", `{"MacAddress":"02:00:00:00:00:01"}`, `{"tapestry.mac":"02:00:00:00:00:02"}`, "tapestry.mac 02:00:00:00:00:02: MacAddress says 02:00:00:00:00:01"},
		{"Docker's key with a bad MAC", `{}`, `{"com.docker.network.endpoint.macaddress":"02:00:00:00:00"}`, "want one station's"},
		{"own slip", `{}`, `{"tapestry.captur":"all"}`, "tapestry.captur: no such option for one container; did you mean tapestry.capture? Known are tapestry.allow, tapestry.allow-to, tapestry.capture, tapestry.guard, tapestry.isolated, tapestry.mac, tapestry.mss, tapestry.rate, tapestry.storm, tapestry.vlan"},
		{"own option", `{}`, `{"tapestry.vni":"80"}`, "tapestry.vni: no such option for one container: it is the network's, give it to docker network create. Known are tapestry.allow, tapestry.allow-to, tapestry.capture, tapestry.guard, tapestry.isolated, tapestry.mac, tapestry.mss, tapestry.rate, tapestry.storm, tapestry.vlan"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{}
			status, got := post(t, serving(t, r), "/NetworkDriver.CreateEndpoint",
				`{"NetworkID":"`+netID+`","EndpointID":"`+epID+`","Interface":`+tc.in+`,"Options":`+tc.options+`}`)
			mustRefuse(t, status, 200, got, tc.want)
			if len(r.calls) != 0 {
				t.Errorf("fabric was called: %v", r.calls)
			}
		})
	}
}

// A hash that begins with 42 would look as if it were made of an IPv4 address.
func TestHashedMACIsNoAddress(t *testing.T) {
	seen := map[ether.MAC]bool{}
	for i := range 2000 {
		m := makeMAC(fabric.Endpoint{ID: fmt.Sprint(i)})
		if m[0] != 0x02 || m[1] == 0x42 || seen[m] {
			t.Fatalf("id %d: %s", i, m)
		}
		seen[m] = true
	}
}

func TestJoin(t *testing.T) {
	for _, tc := range []struct {
		name       string
		attachment fabric.Attachment
		want       map[string]any
	}{
		{"plain", fabric.Attachment{Link: "tp0123456789", External: true},
			map[string]any{"InterfaceName": map[string]any{"SrcName": "tp0123456789", "DstPrefix": "eth"}, "DisableGatewayService": false}},
		{"routes", fabric.Attachment{Link: "tp0123456789", External: true, Routes: prefixes("224.0.0.0/4", "255.255.255.255/32")},
			map[string]any{"InterfaceName": map[string]any{"SrcName": "tp0123456789", "DstPrefix": "eth"}, "DisableGatewayService": false,
				"StaticRoutes": []any{
					map[string]any{"Destination": "224.0.0.0/4", "RouteType": 1.0, "NextHop": ""},
					map[string]any{"Destination": "255.255.255.255/32", "RouteType": 1.0, "NextHop": ""}}}},
		{"named, not external", fabric.Attachment{Link: "tp0123456789", Prefix: "lan", IfName: "lan7"},
			map[string]any{"InterfaceName": map[string]any{"SrcName": "tp0123456789", "DstPrefix": "lan", "DstName": "lan7"}, "DisableGatewayService": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &fakeBackend{attachment: tc.attachment}
			status, got := post(t, serving(t, r), "/NetworkDriver.Join",
				`{"NetworkID":"`+netID+`","EndpointID":"`+epID+`","SandboxKey":"/var/run/docker/netns/0123456789ab","Options":{}}`)
			mustWork(t, status, got)
			if !reflect.DeepEqual(got, tc.want) { // above all: no Gateway
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if want := []string{"Join " + netID + " " + epID + " /var/run/docker/netns/0123456789ab"}; !slices.Equal(r.calls, want) {
				t.Errorf("calls %q, want %q", r.calls, want)
			}
		})
	}
}

// Deleting what does not exist succeeds, twice: fabric returns nil, and nothing here makes an error of that.
func TestDeletesRepeat(t *testing.T) {
	r := &fakeBackend{}
	h := serving(t, r)
	for _, path := range []string{"/NetworkDriver.Leave", "/NetworkDriver.DeleteEndpoint", "/NetworkDriver.DeleteNetwork"} {
		for range 2 {
			status, got := post(t, h, path, `{"NetworkID":"`+nodeNet+`","EndpointID":"`+epID+`"}`)
			mustWork(t, status, got)
			if len(got) != 0 {
				t.Errorf("%s: reply %v, want {}", path, got)
			}
		}
	}
	want := []string{"Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint", "DeleteNetwork", "DeleteNetwork"}
	for i, c := range r.calls {
		if !strings.HasPrefix(c, want[i]+" "+nodeNet) {
			t.Errorf("call %d is %q, want %s of %s", i, c, want[i], nodeNet)
		}
	}
}
