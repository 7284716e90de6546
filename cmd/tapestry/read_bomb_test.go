package main

import (
	"bytes"
	"compress/gzip"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A small packed file that tells interfaces or names without end is refused before it has taken the memory, before its first
// packet and behind it.
func TestReadBombs(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	many := make(pcapng.Names, 2000)
	for i := range many {
		many[i] = pcapng.Name{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Name: long}
	}
	for name, tell := range map[string]func(*pcapng.Writer) error{
		"interfaces": func(w *pcapng.Writer) error {
			_, err := w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet, Description: long})
			return err
		},
		"names":      func(w *pcapng.Writer) error { return w.Names(many[:1]) },
		"statistics": func(w *pcapng.Writer) error { return w.Statistics(&pcapng.Stats{Comment: long}) },
	} {
		for _, where := range []string{"before the first packet", "behind it"} {
			kept := name == "interfaces" || where == "before the first packet"
			var in bytes.Buffer
			z := gzip.NewWriter(&in)
			w := pcapng.NewWriter(z, pcapng.Section{})
			_, err := w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet})
			must(t, err)
			packet := &pcapng.Packet{Data: make([]byte, 60), Queue: -1}
			if where == "behind it" {
				must(t, w.WritePacket(packet))
			}
			for range 1300 { // 78 MB
				must(t, tell(w))
				must(t, w.Flush())
			}
			must(t, w.WritePacket(packet))
			must(t, w.Flush())
			must(t, z.Close())
			path := saved(t, "in.gz", in.Bytes())
			if in.Len() > 1<<20 {
				t.Errorf("%s: it is no small file, %d bytes", name, in.Len())
			}
			r := tapestry(t, "watch", "-r", path)
			refused := strings.Contains(r.stderr, path+": it tells more than 64 MiB beside its packets")
			if refused != kept || (r.code == exitFine) == kept {
				t.Errorf("%s %s: exit %d, %s", name, where, r.code, r.stderr)
			}
		}
	}

	// Names that are too long to be one take no place from others.
	var f fileNames
	f.add(many)
	f.add(pcapng.Names{{Addr: netip.MustParseAddr("10.0.0.1"), Name: "web"}})
	if len(f.told) != 1 || f.size != 1 || f.Addr(netip.MustParseAddr("10.0.0.1")) != "web" {
		t.Errorf("%d names are kept", len(f.told))
	}
}
