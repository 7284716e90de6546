package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

func local(i int) Network {
	return Network{ID: fmt.Sprintf("%064x", 0xabc000+i), Attach: tap.Veth, External: true, Prefix: "eth",
		Pools: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}
}

func ep(i byte) Endpoint {
	return Endpoint{ID: fmt.Sprintf("%060x%04x", i, i), MAC: ether.MAC{2, 0x42, 10, 77, 0, i},
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, i}), 24)}}
}

// sample is a record with something in every field.
func sample() Record {
	n := local(1)
	n.VNI, n.Peers = 80, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:0")}
	n.Ageing, n.MTU, n.Attach = time.Minute, 1400, tap.Direct
	n.Wire = tunnel.Wire{DropReserved: true, DropTagged: true, DSCP: tunnel.Inherit, TTL: 7}
	e := ep(3)
	e.IfName, e.Guards = "net0", Guards{Level: "off"}
	n.Guards = Guards{Level: "full", Allow: []string{"ra", "dhcp"}}
	e.Addrs = append(e.Addrs, netip.MustParsePrefix("fd77::3/64"))
	return Record{Network: n, Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:4790")},
		Endpoints: []EndpointRecord{{Endpoint: e, MTU: 1400, Sandbox: "/run/docker/netns/abc"}, {Endpoint: ep(4), MTU: 1400}}}
}

func TestDir(t *testing.T) {
	empty := sample()
	empty.Network.Peers, empty.Peers, empty.Network.Pools = []netip.AddrPort{}, []netip.AddrPort{}, nil
	for name, want := range map[string]Record{
		"full":     sample(),
		"no peers": empty,
		"plain":    {Network: local(1)},
	} {
		t.Run(name, func(t *testing.T) {
			d := Dir(t.TempDir())
			if got, err := d.Load(); err != nil || got != nil {
				t.Fatalf("an empty directory has %v, %v", got, err)
			}
			if err := d.Prepare(); err != nil {
				t.Fatal(err)
			}
			unfinished := filepath.Join(d.Networks(), "."+want.Network.ID+".json123")
			if err := os.WriteFile(unfinished, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Load(); err != nil || got != nil {
				t.Fatalf("an unfinished file is %v, %v", got, err)
			}
			if err := d.Prepare(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Save(want); err != nil {
					t.Fatal(err)
				}
			}
			got, err := d.Load()
			if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
			info, err := os.Stat(d.Network(want.Network.ID))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is %v, %v", info.Mode(), err)
			}
			if files, _ := os.ReadDir(d.Networks()); len(files) != 1 {
				t.Errorf("%d files, want one", len(files))
			}
			for range 2 {
				if err := d.Remove(want.Network.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := d.Load(); err != nil || got != nil {
				t.Errorf("after remove there is %v, %v", got, err)
			}
		})
	}
}

func TestDirRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Dir(file).Save(sample()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("saved under a file: %v", err)
	}
	if _, err := Dir(file).Load(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("loaded from under a file: %v", err)
	}
}

// No bit of a state file can change unnoticed: it is an error, or (white space, the case of a key
// outside the record) means the same.
func TestBitFlips(t *testing.T) {
	want := sample()
	whole, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			got, err := decodeRecord(b)
			if err != nil {
				noticed++
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("bit %d of byte %d (%q in %q): read as another record", bit, i, whole[i], whole[max(0, i-20):i+1])
			}
		}
	}
	if most := len(whole) * 8 * 9 / 10; noticed < most {
		t.Errorf("%d of %d flips were noticed, want more than %d", noticed, len(whole)*8, most)
	}
}

func TestDecodeRecord(t *testing.T) {
	file := func(version any, body string) string {
		b, err := json.Marshal(map[string]any{"version": version, "sum": sum([]byte(body)), "record": json.RawMessage(body)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct{ name, file, want string }{
		{"nothing", "", "not whole"},
		{"a list", "[]", "not whole"},
		{"null", "null", "version 0"},
		{"no version", `{"sum":"","record":{}}`, "version 0"},
		{"a newer version", file(2, `{}`), "it is of version 2 and this tapestry reads version 1, so run the tapestry that wrote it"},
		{"a newer version with more in it", `{"version":7,"seal":{"by":"someone"}}`, "it is of version 7"},
		{"version as text", file("1", `{}`), "not whole"},
		{"no record", `{"version":1,"sum":""}`, "its record"},
		{"another sum", `{"version":1,"sum":"00","record":{}}`, "has changed"},
		{"an unknown field", file(1, `{"network":{},"colour":"red"}`), "colour"},
		{"a wrong type", file(1, `{"network":5}`), "not whole"},
		{"a bad address", file(1, `{"network":{"pools":["10.0.0.0/33"]}}`), "not whole"},
		{"something behind it", file(1, `{}`) + "{}", "not whole"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r, err := decodeRecord([]byte(tc.file)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, tc.want)
			}
		})
	}
}

// Reading any bytes does not panic, and a record that was read is written as it was.
func FuzzState(f *testing.F) {
	for _, r := range []Record{sample(), {Network: local(1)}, {}} {
		b, err := encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"sum":"` + sum([]byte("null")) + `","record":null}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			r, err := decodeRecord(b)
			if err != nil {
				return
			}
			again, err := encode(r)
			if err != nil {
				t.Fatalf("read but not written: %v", err)
			}
			r2, err := decodeRecord(again)
			if err != nil {
				t.Fatalf("written but not read: %v", err)
			}
			if third, err := encode(r2); err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%s is written as %s, %v", again, third, err)
			}
		}
		check(b)
		// The same bytes as a record with a valid checksum: else no fuzzer gets past it.
		var body bytes.Buffer
		if json.Compact(&body, b) == nil {
			check([]byte(`{"version":1,"sum":"` + sum(body.Bytes()) + `","record":` + string(b) + `}`))
		}
	})
}
