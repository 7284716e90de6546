package plugin

import (
	"github.com/tapestry-net/tapestry/ether"
	"net/http"
	"testing"
	"time"
)

// Any path with any body gets one of the known statuses and a JSON object, and what reaches fabric is well-formed.
func FuzzPlugin(f *testing.F) {
	i := testIPAM(f)
	for path := range newHandler(&Driver{backend: &fakeBackend{}}, i, nil, deadline).methods {
		for _, body := range []string{"", "{}", "null", newCreateNetwork, newCreateEndpoint} {
			f.Add(path, []byte(body))
		}
	}
	for _, body := range []string{
		`{"NetworkID":"a","Options":{"com.docker.network.generic":{"tapestry.vni":"80","tapestry.peers":"192.0.2.2,[fd00::1]:99","tapestry.ageing":"5m","tapestry.attach":"tap","tapestry.external":"off"}}}`,
		`{"NetworkID":"a","Options":{"com.docker.network.generic":{"com.docker.network.driver.mtu":"1400","com.docker.network.container_iface_prefix":"lan","encrypted":"0"}}}`,
		`{"NetworkID":"a","Options":{"com.docker.network.generic":{"tapestry.vnj":1}}}`,
		`{"NetworkID":"a","IPv4Data":[null,{"Pool":"<nil>"},{"Pool":"10.0.0.0/8"}],"IPv6Data":[{"Pool":"::/0"}]}`,
	} {
		f.Add("/NetworkDriver.CreateNetwork", []byte(body))
	}
	f.Add("/NetworkDriver.CreateEndpoint", []byte(`{"NetworkID":"a","EndpointID":"b","Interface":{"Address":"10.0.0.2/8","AddressIPv6":"fd00::2/64","MacAddress":"02:aa:bb:cc:dd:01"}}`))
	f.Add("/NetworkDriver.GwAllocCheck", []byte(`{"Options":{"com.docker.network.generic":{"tapestry.host":7}}}`))
	f.Add("/IpamDriver.RequestPool", []byte(`{"AddressSpace":"tapestry","Pool":"10.77.0.0/24","SubPool":"10.77.0.128/25","Options":{"tapestry.network":"blue"},"V6":false}`))
	f.Add("/IpamDriver.RequestAddress", []byte(`{"PoolID":"local|10.77.0.0/24","Address":"10.77.0.9","Options":{"RequestAddressType":"com.docker.network.gateway"}}`))
	f.Add("/IpamDriver.ReleaseAddress", []byte(`{"PoolID":"local|10.77.0.0/24","Address":"10.77.0.9"}`))
	f.Add("", []byte("\xff"))

	f.Fuzz(func(t *testing.T, path string, body []byte) {
		r := &fakeBackend{}
		status, _ := post(t, newHandler(&Driver{backend: r}, i, nil, deadline), path, string(body))
		switch status {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("status %d", status)
		}
		for _, n := range r.networks {
			if checkID("NetworkID", n.ID) != nil || n.VNI > ether.MaxVNI || n.MTU < 0 || n.MTU > ether.MaxMTU || n.Ageing < time.Second ||
				n.Peers != nil && n.VNI == 0 || n.Prefix != "" && !linkName(n.Prefix, maxPrefix) {
				t.Errorf("fabric was given %+v", n)
			}
		}
		for _, e := range r.endpoints {
			if checkID("EndpointID", e.ID) != nil || e.MAC.Group() || e.MAC.IsZero() || e.IfName != "" && !linkName(e.IfName, maxName) {
				t.Errorf("fabric was given %+v", e)
			}
			for _, a := range e.Addrs {
				if !a.IsValid() {
					t.Errorf("fabric was given address %v", a)
				}
			}
		}
	})
}
