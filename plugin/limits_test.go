package plugin

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/fabric"
)

func TestLimitOptions(t *testing.T) {
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, tc := range []struct {
		key, value string
		want       fabric.Limits
		err        string // part of it
	}{
		{optRate, "100mbit", fabric.Limits{Rate: 100_000_000}, ""},
		{optRate, "64kbit", fabric.Limits{Rate: 64_000}, ""},
		{optRate, "off", fabric.Limits{Rate: fabric.NoLimit}, ""},
		{optRate, "63kbit", fabric.Limits{}, "tapestry.rate=63kbit: want bits a second from 64kbit on"},
		{optRate, "100", fabric.Limits{}, "as in 100mbit"},
		{optRate, "", fabric.Limits{}, "as in 100mbit"},
		{optStorm, "1000", fabric.Limits{Storm: 1000}, ""},
		{optStorm, "off", fabric.Limits{Storm: fabric.NoLimit}, ""},
		{optStorm, "0", fabric.Limits{}, "tapestry.storm=0: want a number of frames a second"},
		{optStorm, "99999999999", fabric.Limits{}, "want a number of frames a second"},
		{optIsolated, "on", fabric.Limits{Isolated: "on"}, ""},
		{optIsolated, "off", fabric.Limits{Isolated: "off"}, ""},
		{optIsolated, "yes", fabric.Limits{}, "tapestry.isolated=yes: want on"},
		{optMSS, "auto", fabric.Limits{MSS: fabric.AutoMSS}, ""},
		{optMSS, "off", fabric.Limits{MSS: fabric.NoLimit}, ""},
		{optMSS, "1360", fabric.Limits{MSS: 1360}, ""},
		{optMSS, "88", fabric.Limits{MSS: 88}, ""},
		{optMSS, "87", fabric.Limits{}, "tapestry.mss=87: want auto (what fits the path to another host), off, or bytes from 88 to 65495, as in 1360"},
		{optMSS, "65496", fabric.Limits{}, "want auto"},
		{optMSS, "on", fabric.Limits{}, "want auto"},
		{optAllowTo, "10.77.0.3", fabric.Limits{AllowTo: prefixes("10.77.0.3/32")}, ""},
		{optAllowTo, "10.77.0.3/24, fd77::1", fabric.Limits{AllowTo: prefixes("10.77.0.0/24", "fd77::1/128")}, ""},
		{optAllowTo, "10.77.0.3+10.77.0.4", fabric.Limits{AllowTo: prefixes("10.77.0.3/32", "10.77.0.4/32")}, ""},
		{optAllowTo, " ", fabric.Limits{}, "want IP addresses or subnets"},
		{optAllowTo, "web", fabric.Limits{}, `tapestry.allow-to=web: "web": want IP addresses or subnets`},
		{optAllowTo, "fe80::1%eth0", fabric.Limits{}, "want IP addresses or subnets"},
	} {
		given := map[string]any{tc.key: tc.value}
		var got fabric.Limits
		err := apply(&got, limitOptions, given)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s=%s: error %v, want %q", tc.key, tc.value, err, tc.err)
			}
		} else if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s=%s: %+v, %v, want %+v", tc.key, tc.value, got, err, tc.want)
		}
		var n fabric.Network
		for _, o := range networkOptions() {
			if o.key == tc.key {
				if err := o.set(&n, tc.value); (err != nil) != (tc.err != "") || err == nil && !reflect.DeepEqual(n.Limits, tc.want) {
					t.Errorf("network, %s=%s: %+v, %v", tc.key, tc.value, n.Limits, err)
				}
			}
		}
	}
}
