package ether

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// resum makes the checksums of an ordinary TCP or UDP frame right again, padding left out.
func resum(b []byte) {
	l, ok := dissect(b)
	if !ok || l.end(b) > len(b) || l.end(b) < l.head {
		return
	}
	if !l.v6 {
		ip := b[l.ip:l.l4]
		takeAndZero16(ip[10:])
		binary.BigEndian.PutUint16(ip[10:], ^packets.Sum(ip, 0))
	}
	l4 := b[l.l4:l.end(b)]
	takeAndZero16(l4[l.checksumOffset():])
	sum := ^packets.Sum(l4, uint32(slowPseudo(b, l, len(l4))))
	if l.kind == UDP {
		sum = nonZero(sum)
	}
	binary.BigEndian.PutUint16(l4[l.checksumOffset():], sum)
}

func TestJoinUndoesCut(t *testing.T) {
	last := stream(10000)
	last.TCP.FIN, last.TCP.PSH = true, true
	marked := stream(10000)
	marked.TCP.ECE = true
	six := stream(10001)
	six.V6, six.Tags = true, vlans[:1]
	for name, p := range map[string]packet{
		"tcp4":           stream(10000),
		"tcp4 FIN, PSH":  last,
		"tcp4 ECE":       marked,
		"tcp4 equal":     stream(10 * 1000),
		"tcp6 tagged":    six,
		"udp4":           {UDP: true, ID: 65530, Payload: packets.Data(64 * 1000)},
		"udp6":           {UDP: true, V6: true, Payload: packets.Data(1999)},
		"tcp4 65535":     {Payload: packets.Data(65535 - 40), TCP: stream(0).TCP},
		"tcp4 two bytes": {Payload: packets.Data(1001), TCP: stream(0).TCP},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "tcp4 65535" {
				p.TCP.Options = nil
			}
			f := p.super(t, 1000)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			frames := cutAll(t, &f)
			var j Joiner
			if !j.Start(&frames[0]) {
				t.Fatal("the first segment begins no run")
			}
			for i := range frames[1:] {
				if !j.Add(&frames[i+1]) {
					t.Fatalf("segment %d does not go on the run", i+1)
				}
			}
			got := joined(&j)
			if !bytes.Equal(got.Bytes(), f.Bytes()) {
				t.Errorf("header\n%x, want\n%x", j.Head(), f.Bytes()[:f.Off.Head])
			}
			if got.Off != f.Off || j.Frames() != len(frames) {
				t.Errorf("%d frames, %+v; want %d, %+v", j.Frames(), got.Off, len(frames), f.Off)
			}
			if err := got.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestJoinStart(t *testing.T) {
	tcp, udp := stream(500), packet{UDP: true, Payload: packets.Data(500)}
	six := tcp
	six.V6 = true
	flag := func(b byte) func([]byte) { return func(f []byte) { f[47] |= b } }
	for _, tc := range []struct {
		name string
		f    Frame
		edit func(b []byte)
		want bool
	}{
		{"tcp4", tcp.frame(t), nil, true},
		{"tcp6", six.frame(t), nil, true},
		{"udp4", udp.frame(t), nil, true},
		{"wrong checksum, for the time being", tcp.frame(t), func(b []byte) { b[50] ^= 1 }, true},
		{"ECE", tcp.frame(t), flag(flagECE), true},
		{"CWR", tcp.frame(t), flag(flagCWR), false},
		{"nothing", Frame{}, nil, false},
		{"super-frame", tcp.super(t, 100), nil, false},
		{"partial", lend(tcp.super(t, 100).buf[Headroom:], Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}), nil, true},
		{"partial elsewhere", lend(tcp.super(t, 100).buf[Headroom:], Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}), nil, false},
		{"partial and padded", lend(append(tcp.super(t, 100).buf[Headroom:], 0), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}), nil, false},
		{"ARP", tcp.frame(t), func(b []byte) { b[13] = 6 }, false},
		{"ICMP", tcp.frame(t), func(b []byte) { b[23] = 1 }, false},
		{"fragment", tcp.frame(t), func(b []byte) { b[21] = 1 }, false},
		{"extension header", hops(six.frame(t), 1, protoDestOpts), nil, false},
		{"no payload", packet{TCP: tcp.TCP}.frame(t), nil, false},
		{"no ACK", tcp.frame(t), func(b []byte) { b[47] &^= flagACK }, false},
		{"SYN", tcp.frame(t), flag(flagSYN), false},
		{"RST", tcp.frame(t), flag(flagRST), false},
		{"URG", tcp.frame(t), flag(flagURG), false},
		{"FIN", tcp.frame(t), flag(flagFIN), false},
		{"PSH", tcp.frame(t), flag(flagPSH), false},
		{"IP ends behind the frame", tcp.frame(t), func(b []byte) { b[16] = 0xff }, false},
		{"IP ends in the header", tcp.frame(t), func(b []byte) { b[16], b[17] = 0, 30 }, false},
		{"UDP without checksum", udp.frame(t), func(b []byte) { b[40], b[41] = 0, 0 }, false},
		{"UDP shorter than IP", udp.frame(t), func(b []byte) { b[39]-- }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.edit != nil {
				tc.edit(tc.f.Bytes())
			}
			var j Joiner
			if got := j.Start(&tc.f); got != tc.want {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			if !tc.want {
				next := tcp.frame(t)
				if j.Frames() != 0 || j.Head() != nil || len(j.Payloads()) != 0 || j.Add(&next) {
					t.Error("there is a run all the same")
				}
				return
			}
			if g := joined(&j); j.Frames() != 1 || j.Off() != tc.f.Off || !bytes.Equal(g.Bytes(), tc.f.Bytes()) {
				t.Errorf("a run of one is %d frames, %+v:\n%x, want\n%x", j.Frames(), j.Off(), g.Bytes(), tc.f.Bytes())
			}
		})
	}
}

// pair is two neighbours, to be edited before they are joined.
type pair struct{ a, b []byte }

func TestJoinAdd(t *testing.T) {
	tcp := stream(2000)
	tcp.ID, tcp.DF = 1000, false
	df := tcp
	df.DF = true
	six := tcp
	six.V6 = true
	udp := packet{UDP: true, Payload: packets.Data(2000)}
	setID := func(b []byte, id uint16) { binary.BigEndian.PutUint16(b[18:], id) }
	xor := func(at int, with byte) func(p *pair) {
		return func(p *pair) { p.b[at] ^= with; resum(p.b) }
	}
	wrong := func(at int) func(p *pair) { return func(p *pair) { p.b[at] ^= 1 } }
	// resize gives the second frame n bytes of payload.
	resize := func(n int) func(p *pair) {
		return func(p *pair) {
			l, _ := dissect(p.b)
			p.b = append(p.b[:l.head:l.head], packets.Data(n)...)
			l.setLengths(p.b, n)
			resum(p.b)
		}
	}
	for _, tc := range []struct {
		name string
		p    packet
		edit func(p *pair)
		want bool
	}{
		{"tcp4", tcp, nil, true},
		{"tcp6", six, nil, true},
		{"udp4", udp, nil, true},
		{"PSH", tcp, xor(47, flagPSH), true},
		{"FIN", tcp, xor(47, flagFIN), true},
		{"shorter", tcp, resize(1), true},
		{"shorter udp", udp, resize(1), true},
		{"padding", tcp, func(p *pair) { p.b = append(p.b, 1, 2, 3, 4, 5, 6) }, true},
		{"padding of the first", six, func(p *pair) { p.a = append(p.a, 1, 2, 3) }, true},
		{"DF, equal identification", df, func(p *pair) { setID(p.b, 1000); resum(p.b) }, true},

		{"longer", tcp, resize(1001), false},
		{"longer udp", udp, resize(1001), false},
		{"no payload", tcp, resize(0), false},
		{"destination MAC", tcp, xor(5, 1), false},
		{"source MAC", tcp, xor(11, 1), false},
		{"TOS", tcp, xor(15, 1), false},
		{"DF", tcp, xor(20, 0x40), false},
		{"fragment", tcp, xor(20, 0x20), false},
		{"TTL", tcp, xor(22, 1), false},
		{"source IP", tcp, xor(29, 1), false},
		{"destination IP", tcp, xor(33, 1), false},
		{"identification two on", tcp, func(p *pair) { setID(p.b, 1002); resum(p.b) }, false},
		{"identification one back", df, func(p *pair) { setID(p.b, 999); resum(p.b) }, false},
		{"equal identification without DF", tcp, func(p *pair) { setID(p.b, 1000); resum(p.b) }, false},
		{"flow label", six, xor(17, 1), false},
		{"traffic class", six, xor(15, 0x10), false},
		{"congestion experienced", tcp, func(p *pair) { setClass(p.a, 0, ECT0); setClass(p.b, 0, CE) }, false},
		{"congestion experienced, IPv6", six, func(p *pair) { setClass(p.a, 0, ECT1); setClass(p.b, 0, CE) }, false},
		{"congestion experienced twice", tcp, func(p *pair) { setClass(p.a, 0, CE); setClass(p.b, 0, CE) }, true},
		{"hop limit", six, xor(21, 1), false},
		{"IPv6 source", six, xor(37, 1), false},
		{"source port", tcp, xor(35, 1), false},
		{"destination port", udp, xor(37, 1), false},
		{"sequence number", tcp, xor(41, 1), false},
		{"acknowledgement", tcp, xor(45, 1), false},
		{"ECE", tcp, xor(47, flagECE), false},
		{"CWR", tcp, xor(47, flagCWR), false},
		{"SYN", tcp, xor(47, flagSYN), false},
		{"RST", tcp, xor(47, flagRST), false},
		{"AE, which was NS", tcp, xor(46, 1), false},
		{"reserved flags", tcp, xor(46, 2), false},
		{"window", tcp, xor(49, 1), false},
		{"urgent pointer", tcp, xor(53, 1), false},
		{"timestamp", tcp, xor(61, 1), false},
		{"wrong TCP checksum", tcp, wrong(50), false},
		{"wrong UDP checksum", udp, wrong(40), false},
		{"no UDP checksum", udp, func(p *pair) { p.b[40], p.b[41] = 0, 0 }, false},
		{"wrong IPv4 checksum", tcp, wrong(24), false},
		{"payload changed on the way", six, wrong(500), false},
		{"payload of the first changed", tcp, func(p *pair) { p.a[500] ^= 1 }, false},
		{"IPv4 checksum of the first", udp, func(p *pair) { p.a[24] ^= 1 }, false},
		{"cut short", tcp, func(p *pair) { p.b = p.b[:100] }, false},
		{"cut in the header", tcp, func(p *pair) { p.b = p.b[:50] }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.p.super(t, 1000)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			frames := cutAll(t, &f)
			p := &pair{frames[0].Bytes(), frames[1].Bytes()}
			if tc.edit != nil {
				tc.edit(p)
			}
			a, b := lend(p.a, Offload{}), lend(p.b, Offload{})
			var j Joiner
			if !j.Start(&a) {
				t.Fatal("the first frame begins no run")
			}
			if got := j.Add(&b); got != tc.want {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			wantRun(t, &j, []Frame{a, b}[:j.Frames()])
			if !tc.want && j.Frames() != 1 {
				t.Errorf("a run of %d frames, want 1", j.Frames())
			}
		})
	}
}

// wantRun cuts j's run again and wants the same frames back: without padding, checksum 0 the same as
// 0xffff, and equal identifications, which mean nothing where they are allowed, counted on.
func wantRun(t *testing.T, j *Joiner, frames []Frame) {
	t.Helper()
	if j.Frames() != len(frames) || len(j.Payloads()) != len(frames) {
		t.Fatalf("%d frames, %d payloads; want %d", j.Frames(), len(j.Payloads()), len(frames))
	}
	if len(frames) < 2 {
		return
	}
	f := joined(j)
	want := f.Off
	if err := f.Check(); err != nil || f.Off != want {
		t.Fatalf("the joined frame's check: %v, %+v; want %+v", err, f.Off, want)
	}
	cut := cutAll(t, &f)
	if len(cut) != len(frames) {
		t.Fatalf("%d frames after joining and cutting, want %d", len(cut), len(frames))
	}
	first := binary.BigEndian.Uint16(frames[0].Bytes()[want.ChecksumStart-16:])
	for i := range cut {
		b := frames[i].Bytes()
		l, _ := dissect(b)
		b = bytes.Clone(b[:l.end(b)])
		if !l.checksumsValid(b, len(b)) {
			t.Errorf("frame %d was joined with a wrong checksum", i)
		}
		if !l.v6 && b[l.ip+6]&0x40 != 0 && binary.BigEndian.Uint16(b[l.ip+4:]) == first {
			binary.BigEndian.PutUint16(b[l.ip+4:], first+uint16(i))
		}
		resum(b)
		if !bytes.Equal(b, cut[i].Bytes()) {
			t.Errorf("frame %d after joining and cutting is\n%x, want\n%x", i, cut[i].Bytes(), b)
		}
	}
}

func TestJoinEnds(t *testing.T) {
	psh := stream(3000)
	psh.TCP.PSH = true
	for _, tc := range []struct {
		name    string
		p       packet
		segment int
		wrong   int // frame whose checksum is broken, 0 for none
		runs    []int
	}{
		{"PSH ends a run", psh, 1000, 0, []int{3}},
		{"64 datagrams", packet{UDP: true, Payload: packets.Data(10000)}, 100, 0, []int{64, 36}},
		{"a short one ends a run", packet{UDP: true, Payload: packets.Data(2500)}, 1000, 0, []int{3}},
		{"a wrong checksum parts a run", stream(5000), 1000, 2, []int{2, 1, 2}},
		{"256 segments", stream(256 * 20), 20, 0, []int{256}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.p.super(t, tc.segment)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			frames := cutAll(t, &f)
			if tc.wrong > 0 {
				frames[tc.wrong].Bytes()[20+tc.segment] ^= 1
			}
			if runs := joinAll(t, frames); !slices.Equal(runs, tc.runs) {
				t.Errorf("runs of %v, want %v", runs, tc.runs)
			}
		})
	}
}

// A connection whose segments have these sizes, one behind the other, makes these runs.
func TestJoinRuns(t *testing.T) {
	sizes := func(n, size int, more ...int) []int { return append(slices.Repeat([]int{size}, n), more...) }
	for _, tc := range []struct {
		name  string
		sizes []int
		ids   []uint16 // nil: counted on
		runs  []int
	}{
		{"65535 bytes of IP", sizes(65, 1000, 495), nil, []int{66}},
		{"65536 bytes of IP", sizes(65, 1000, 496), nil, []int{65, 1}},
		{"257 segments", sizes(257, 100), nil, []int{256, 1}},
		{"nothing behind a shorter one", sizes(2, 1000, 500, 500, 500, 400, 400), nil, []int{3, 3, 1}},
		{"longer and longer", []int{100, 200, 300}, nil, []int{1, 1, 1}},
		{"identification counted on, then equal", sizes(4, 100), []uint16{7, 8, 8, 9}, []int{2, 2}},
		{"identification equal, then counted on", sizes(4, 100), []uint16{7, 7, 8, 9}, []int{2, 2}},
		{"identification always 0", sizes(4, 100), []uint16{0, 0, 0, 0}, []int{4}},
		{"identification wraps", sizes(4, 100), []uint16{65534, 65535, 0, 1}, []int{4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := stream(0)
			p.TCP.Options = nil
			var frames []Frame
			for i, size := range tc.sizes {
				p.Payload = packets.Data(size)
				if tc.ids != nil {
					p.ID = tc.ids[i]
				}
				frames = append(frames, p.frame(t))
				p.ID++
				p.TCP.Seq += uint32(size)
			}
			if runs := joinAll(t, frames); !slices.Equal(runs, tc.runs) {
				t.Errorf("runs of %v, want %v", runs, tc.runs)
			}
		})
	}
}

// joinAll joins neighbours as a sender does, holds every run against its frames, and gives the
// runs' lengths.
func joinAll(t *testing.T, frames []Frame) (runs []int) {
	t.Helper()
	var j Joiner
	for i := 0; i < len(frames); {
		n := 1
		if j.Start(&frames[i]) {
			for i+n < len(frames) && j.Add(&frames[i+n]) {
				n++
			}
			wantRun(t, &j, frames[i:i+n])
		}
		runs = append(runs, n)
		i += n
	}
	return runs
}
