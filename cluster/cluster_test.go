package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func host(i int) Host {
	return Host{ID: HostID(fmt.Sprintf("%016x", i)), Name: fmt.Sprintf("n%d", i), Epoch: 1, VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4789)}
}

// full is a record with something in every field.
func full(i int) *Record {
	return &Record{
		Host: host(i), Seq: 7,
		Members: []Member{
			{Spec: Spec{Key: "blue", VNI: 80, Subnets: []netip.Prefix{prefix("10.50.0.0/16"), prefix("fd50::/64")}, MTU: 1400},
				Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26)}},
			{Spec: Spec{Key: "green-2_x"}},
		},
		Stations: []Station{{Key: "blue", MAC: ether.MAC{2, 1, 2, 3, 4, byte(i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 50, 99, byte(i)}), addr(fmt.Sprintf("fd50::%d:9", i))}, Seq: 3}},
		Names:    []Name{{Key: "blue", Name: fmt.Sprintf("Web%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 50, byte(i), 5})}}},
	}
}

func TestRecord(t *testing.T) {
	b, err := full(1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, full(1)) {
		t.Errorf("%s is read as %+v, %v", b, got, err)
	}
	for name, change := range map[string]func(*Record){
		"host id":                 func(r *Record) { r.ID = "0123456789abcdeg" },
		"is no name":              func(r *Record) { r.Name = "a\nb" },
		"address of a VTEP":       func(r *Record) { r.VTEP = netip.MustParseAddrPort("224.0.0.1:4789") },
		"named twice":             func(r *Record) { r.Members[1].Key = "blue" },
		`network "Blue"`:          func(r *Record) { r.Members[1].Key = "Blue" },
		"VNI 16777216":            func(r *Record) { r.Members[0].VNI = 1 << 24 },
		"ascending order":         func(r *Record) { slices.Reverse(r.Members[0].Subnets) },
		"is no block":             func(r *Record) { r.Members[0].Blocks[0] = prefix("10.50.0.1/26") },
		"not on it":               func(r *Record) { r.Names[0].Key = "red" },
		"no address of a station": func(r *Record) { r.Stations[0].MAC = ether.MAC{1} },
		"of a container":          func(r *Record) { r.Names[0].Addrs[0] = addr("224.0.0.1") },
		"with 65 addresses":       func(r *Record) { r.Stations[0].Addrs = slices.Repeat([]netip.Addr{addr("10.50.0.9")}, 65) },
		"with 0 addresses":        func(r *Record) { r.Names[0].Addrs = nil },
	} {
		r := full(1)
		change(r)
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error that says %q, got %v", name, err)
		}
	}
	for text, want := range map[string]string{
		`{"version":2,"record":{}}`: ErrVersion.Error(),
		`{"version":0,"record":{}}`: "version 0",
		`{"version":1}`:             "not a record",
		`[]`:                        "not a record",
		``:                          "not a record",
	} {
		_, err := Decode([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
		if errors.Is(err, ErrVersion) != strings.Contains(text, ":2,") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Decode(make([]byte, MaxRecord+1)); err == nil {
		t.Error("a record without end is read")
	}
	huge := full(1)
	for i := range 200_000 {
		huge.Names = append(huge.Names, Name{"blue", fmt.Sprintf("container-%d", i), []netip.Addr{addr("10.50.1.1")}})
	}
	if _, err := huge.Encode(); err == nil {
		t.Error("a record that nobody reads is written")
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := full(1).Encode()
	f.Add(b)
	f.Add([]byte(`{"version":1,"record":{"id":"0123456789abcdef","name":"a","epoch":1,"vtep":"192.0.2.1:4789","members":[{"key":"a","blocks":["::/0"]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		b, err = r.Encode()
		if err != nil {
			return // grown over the bound by escapes
		}
		again, err := Decode(b)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		d := NewDirectory("")
		d.Apply(Update{Full: true, Entries: []Entry{{Record: *again}}})
		d.Problems(again)
	})
}

func TestNewer(t *testing.T) {
	order := []Record{{Seq: 5}, {Seq: 6}, {Host: Host{Epoch: 1}}, {Host: Host{Epoch: 1}, Seq: 1}}
	for i := range order {
		for j := range order {
			if got := order[i].Newer(&order[j]); got != (i > j) {
				t.Errorf("%d newer than %d: %v", i, j, got)
			}
		}
	}
}

func TestCheckKey(t *testing.T) {
	for key, ok := range map[string]bool{"a": true, "blue": true, "0": true, "a-b_c": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a b": false, "ä": false, strings.Repeat("a", 64): false} {
		if err := CheckKey(key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestChooseVNI(t *testing.T) {
	seen := make(map[uint32]bool)
	for i := range 1000 {
		v := ChooseVNI("c", fmt.Sprint(i))
		if v < FirstChosen || v > ether.MaxVNI || v != ChooseVNI("c", fmt.Sprint(i)) {
			t.Fatalf("VNI %d", v)
		}
		seen[v] = true
	}
	if len(seen) < 990 || ChooseVNI("c", "1") == ChooseVNI("d", "1") || ChooseVNI("ab", "c") == ChooseVNI("a", "bc") {
		t.Errorf("%d of 1000 VNIs differ", len(seen))
	}
}

func TestBlocks(t *testing.T) {
	for _, tc := range []struct {
		subnet string
		bits   int
		want   string
	}{
		{"10.0.0.64/26", 27, "[10.0.0.64/27 10.0.0.96/27]"},
		{"10.0.0.0/30", 30, "[10.0.0.0/30]"},
		{"255.255.255.252/30", 31, "[255.255.255.252/31 255.255.255.254/31]"},
		{"fd00::/126", 127, "[fd00::/127 fd00::2/127]"},
		{"10.0.0.0/24", 23, "[]"},
		{"10.0.0.0/24", 33, "[]"},
	} {
		if got := fmt.Sprint(slices.Collect(Blocks(prefix(tc.subnet), tc.bits))); got != tc.want {
			t.Errorf("%s of %d bits: %s, want %s", tc.subnet, tc.bits, got, tc.want)
		}
	}
}

func TestDirectory(t *testing.T) {
	d := NewDirectory(host(9).ID)
	entry := func(r *Record) Entry { return Entry{Record: *r} }
	if got := d.Apply(Update{Full: true, Entries: []Entry{entry(full(1)), entry(full(2)), entry(full(9))}}); !slices.Equal(got, []string{"blue", "green-2_x"}) {
		t.Errorf("changed: %v", got)
	}
	if n := len(d.Hosts()); n != 2 {
		t.Errorf("%d hosts: this one's own record is none of the others'", n)
	}
	where := func(a string) string {
		h, ok := d.Where("blue", addr(a))
		if !ok {
			return ""
		}
		return h.Name
	}
	for a, want := range map[string]string{"10.50.1.1": "n1", "10.50.1.63": "n1", "10.50.1.64": "", "10.50.2.1": "n2", "10.50.99.2": "n2", "fd50::1:9": "n1", "fd50::1:8": ""} {
		if got := where(a); got != want {
			t.Errorf("%s is at %q, want %q", a, got, want)
		}
	}
	if got := d.Resolve("blue", "wEB1"); !slices.Equal(got, []netip.Addr{addr("10.50.1.5")}) || d.NameOf("blue", addr("10.50.1.5")) != "Web1" {
		t.Errorf("Web1 is %v", got)
	}
	if d.Resolve("green-2_x", "web1") != nil || d.Resolve("red", "web1") != nil || d.NameOf("red", addr("10.50.1.5")) != "" {
		t.Error("a name is known on another network")
	}

	// Aliases come after a container's own name, which is the one that its address gives.
	aliased := full(1)
	aliased.Seq++
	aliased.Names = append(aliased.Names, Name{Key: "blue", Name: "alias", Addrs: []netip.Addr{addr("10.50.1.5")}})
	d.Apply(Update{Entries: []Entry{entry(aliased)}})
	if got := d.NameOf("blue", addr("10.50.1.5")); got != "Web1" || len(d.Resolve("blue", "alias")) != 1 {
		t.Errorf("10.50.1.5 is %q", got)
	}
	var names []string
	for _, n := range d.Names("blue") {
		names = append(names, n.Host.Name+" "+n.Name.Name)
	}
	if got := strings.Join(names, ", "); got != "n1 Web1, n1 alias, n2 Web2" || d.Names("red") != nil {
		t.Errorf("names: %s", got)
	}

	// Where an address is, and by which MAC: Docker's rule, or what its host says of it.
	for a, want := range map[string]string{"10.50.1.5": "n1 02:42:0a:32:01:05", "10.50.99.2": "n2 02:01:02:03:04:02", "fd50::1:9": "n1 02:01:02:03:04:01", "10.50.1.64": ""} {
		h, state, mac, ok := d.Place("blue", addr(a))
		if got := h.Name + " " + mac.String(); ok != (want != "") || ok && got != want || state != Alive {
			t.Errorf("%s is at %s, %v, %v; want %q", a, got, state, ok, want)
		}
	}
	for mac, want := range map[ether.MAC]HostID{{2, 0x42, 10, 50, 2, 9}: host(2).ID, {2, 1, 2, 3, 4, 1}: host(1).ID, {2, 0x42, 10, 50, 1, 64}: "", {6, 0x42, 10, 50, 2, 9}: ""} {
		if got := d.HostOf("blue", mac); got != want {
			t.Errorf("%s is at %q, want %q", mac, got, want)
		}
	}
	if got := d.Names("blue")[0]; got.MAC.String() != "02:42:0a:32:01:05" || got.Host != host(1) || got.State != Alive {
		t.Errorf("%+v", got)
	}

	// A station that moved, a block within a block, and an older record.
	two := full(2)
	two.Seq++
	two.Stations = append(two.Stations, Station{Key: "blue", MAC: ether.MAC{2, 9}, Addrs: []netip.Addr{addr("10.50.99.1")}, Seq: 4})
	two.Members[0].Blocks = append(two.Members[0].Blocks, prefix("10.50.1.32/28"))
	if got := d.Apply(Update{Entries: []Entry{entry(two)}}); len(got) != 2 {
		t.Errorf("changed: %v", got)
	}
	if got := d.Apply(Update{Entries: []Entry{entry(full(2))}}); got != nil {
		t.Errorf("an older record changes %v", got)
	}
	if id, seq, ok := d.Station("blue", ether.MAC{2, 9}); id != host(2).ID || seq != 4 || !ok {
		t.Errorf("a station is at %s, %d", id, seq)
	}
	if _, _, ok := d.Station("red", ether.MAC{2, 9}); ok || len(d.Stations("blue")) != 3 || len(d.Stations("red")) != 0 {
		t.Errorf("stations %v", d.Stations("blue"))
	}
	for a, want := range map[string]string{"10.50.99.1": "n2", "10.50.1.40": "n2", "10.50.1.20": "n1"} {
		if got := where(a); got != want {
			t.Errorf("%s is at %q, want %q", a, got, want)
		}
	}
	problems := strings.Join(d.Problems(full(9)), "\n")
	if want := "network blue: 10.50.99.1 is at host n1 (192.0.2.1), and at host n2 (192.0.2.2)\n" +
		"network blue: host n1 (192.0.2.1) gives out 10.50.1.0/26, and host n2 (192.0.2.2) 10.50.1.32/28"; problems != want {
		t.Errorf("problems: %s", problems)
	}

	// A host that is gone keeps its addresses and loses its names; one that does not exist any more loses all.
	d.Apply(Update{Entries: []Entry{{*full(1), Gone}}})
	if where("10.50.1.1") != "n1" || d.Resolve("blue", "web1") != nil || d.Names("blue")[0].State != Gone || d.On("blue")[0].State != Gone {
		t.Error("a host that is gone")
	}
	d.Apply(Update{Removed: []HostID{host(1).ID, "unknown"}})
	if where("10.50.1.1") != "" || len(d.On("blue")) != 1 {
		t.Error("a host that was removed is still there")
	}
	if got := d.Apply(Update{Full: true}); len(got) != 2 || len(d.Hosts()) != 0 || len(d.keys) != 0 {
		t.Errorf("an empty full update changes %v, and leaves %v", got, d.Hosts())
	}
}

func TestProblems(t *testing.T) {
	own := full(9)
	for want, change := range map[string]func(*Record){
		"hosts n9 (192.0.2.9) and n9 (192.0.2.1) have one name": func(r *Record) { r.Name = "n9" },
		"hosts n9 (192.0.2.9) and n1 (192.0.2.9) have one address": func(r *Record) {
			r.VTEP = own.VTEP
		},
		"network blue has VNI 80 at host n9 (192.0.2.9), and VNI 81 at host n1 (192.0.2.1)": func(r *Record) { r.Members[0].VNI = 81 },
		"VNI 80 is that of network blue at host n9 (192.0.2.9), and of network red at host n1 (192.0.2.1)": func(r *Record) {
			*r = Record{Host: r.Host, Members: []Member{{Spec: Spec{Key: "red", VNI: 80}}}}
		},
		"network blue: 10.50.99.9 is at host n9 (192.0.2.9), and at host n1 (192.0.2.1)": func(r *Record) { // and so is its MAC
			r.Stations[0].Addrs[0], r.Stations[0].MAC = addr("10.50.99.9"), own.Stations[0].MAC
		},
		"network blue: 02:01:02:03:04:09 is at host n9 (192.0.2.9), and at host n1 (192.0.2.1)": func(r *Record) {
			r.Stations[0].MAC = own.Stations[0].MAC
		},
		"network blue: 10.50.9.5 is at host n9 (192.0.2.9), and at host n1 (192.0.2.1)": func(r *Record) {
			r.Names[0].Addrs[0] = addr("10.50.9.5")
		},
		"network blue: fd50::9:9 is at host n9 (192.0.2.9), and at host n1 (192.0.2.1)": func(r *Record) { // of a name, and of another's station
			r.Names[0].Addrs[0] = addr("fd50::9:9")
		},
		"network blue: host n9 (192.0.2.9) gives out 10.50.9.0/26, and host n1 (192.0.2.1) 10.50.9.0/26": func(r *Record) {
			r.Members[0].Blocks = []netip.Prefix{prefix("10.50.8.0/26"), prefix("10.50.9.0/26")}
		},
	} {
		r := full(1)
		change(r)
		d := NewDirectory(own.ID)
		d.Apply(Update{Full: true, Entries: []Entry{{Record: *r}}})
		if got := d.Problems(own); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A host that is gone has no container any more that another one could have, too; it keeps all else.
func TestProblemsOfGone(t *testing.T) {
	d := NewDirectory(host(9).ID)
	r := full(1)
	r.Stations[0].MAC, r.Members[0].Blocks[0] = full(9).Stations[0].MAC, full(9).Members[0].Blocks[0]
	d.Apply(Update{Full: true, Entries: []Entry{{*r, Gone}}})
	if got := d.Problems(full(9)); len(got) != 1 || !strings.Contains(got[0], "gives out") {
		t.Errorf("got %q", got)
	}
}
