package plugin

import (
	"reflect"
	"testing"
)

// One pool's life, as dockerd asks for it.
func TestIPAM(t *testing.T) {
	h := newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline)
	const id = `local|10.77.0.0/29`
	for _, tc := range []struct {
		method, body string
		want         map[string]any
	}{
		{"GetCapabilities", ``, map[string]any{"RequiresMACAddress": false, "RequiresRequestReplay": false}},
		{"GetDefaultAddressSpaces", ``, map[string]any{"LocalDefaultAddressSpace": "tapestry", "GlobalDefaultAddressSpace": "tapestry-swarm"}},
		{"RequestPool", `{"AddressSpace":"tapestry","Pool":"10.77.0.0/29","SubPool":"","Options":null,"V6":false}`,
			map[string]any{"PoolID": id, "Pool": "10.77.0.0/29", "Data": nil}},
		{"RequestAddress", `{"PoolID":"` + id + `","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, map[string]any{"Address": "10.77.0.1/29", "Data": nil}},
		{"RequestAddress", `{"PoolID":"` + id + `","Address":"","Options":null}`, map[string]any{"Address": "10.77.0.2/29", "Data": nil}},
		{"RequestAddress", `{"PoolID":"` + id + `","Address":"10.77.0.5","Options":{}}`, map[string]any{"Address": "10.77.0.5/29", "Data": nil}},
		{"ReleaseAddress", `{"PoolID":"` + id + `","Address":"10.77.0.5"}`, map[string]any{}},
		{"ReleasePool", `{"PoolID":"` + id + `"}`, map[string]any{}},
		{"ReleasePool", `{"PoolID":"` + id + `"}`, map[string]any{}},
		{"ReleaseAddress", `{"PoolID":"` + id + `","Address":"10.77.0.2"}`, map[string]any{}},
	} {
		status, got := post(t, h, "/IpamDriver."+tc.method, tc.body)
		mustWork(t, status, got)
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s %s: got %v, want %v", tc.method, tc.body, got, tc.want)
		}
	}
}

// The leading manager of a Swarm leaves its own options in a request for a pool, and by one of them it is known.
func TestIPAMSwarm(t *testing.T) {
	h := newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline)
	const pool = `{"AddressSpace":"tapestry-swarm","Pool":"10.60.0.0/29","Options":{"RequestAddressType":"com.docker.network.gateway","com.docker.network.ipam.serial":"true"}}`
	const address = `{"PoolID":"global|10.60.0.0/29","Address":"10.60.0.5","Options":{"com.docker.network.ipam.serial":"true"}}`
	for range 2 { // it begins to lead
		for _, call := range []struct{ method, body string }{{"GetCapabilities", ``}, {"RequestPool", pool}, {"RequestAddress", address}} {
			status, got := post(t, h, "/IpamDriver."+call.method, call.body)
			mustWork(t, status, got)
		}
	}
	status, got := post(t, h, "/IpamDriver.RequestAddress", address)
	mustRefuse(t, status, 200, got, "belongs to another container of the Swarm")
	status, got = post(t, h, "/IpamDriver.RequestPool", pool)
	mustRefuse(t, status, 200, got, "belongs to another network of the Swarm")
}

// dockerd looks for the IPAM driver's errors in a field of another name than the network driver's.
func TestIPAMErrors(t *testing.T) {
	for _, tc := range []struct{ method, body, want string }{
		{"RequestPool", `{"AddressSpace":"default"}`, `AddressSpace default: want tapestry or tapestry-swarm`},
		{"RequestPool", `{"AddressSpace":"tapestry","Pool":"10.77.0.0"}`, "--subnet 10.77.0.0: want a subnet"},
		{"RequestPool", `{"AddressSpace":"tapestry","Pool":"10.77.0.0/24","SubPool":"x"}`, "--ip-range x: want a subnet"},
		{"RequestPool", `{"AddressSpace":"tapestry","Options":{"tapestry.net":"blue"}}`, "takes tapestry.network only"},
		{"RequestPool", `{"AddressSpace":"tapestry","Options":{"tapestry.network":""}}`, "want the network's name"},
		{"RequestPool", `{"AddressSpace":"tapestry","Pool":"10.77.0.0/24","Options":{"tapestry.network":"blue"}}`, "this host is in no cluster"},
		{"RequestAddress", `{"PoolID":"x"}`, `pool "x" is not known`},
		{"RequestAddress", `{"PoolID":"x","Address":"10.77.0.0/24"}`, "want an IP address"},
		{"ReleaseAddress", `{"PoolID":"x","Address":"fe80::1%eth0"}`, "want an IP address"},
	} {
		status, got := post(t, newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline), "/IpamDriver."+tc.method, tc.body)
		mustRefuse(t, status, 200, got, tc.want)
		if got["Error"] != got["Err"] {
			t.Errorf("%v", got)
		}
	}
}
