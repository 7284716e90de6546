package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// recorded is a capture file as blocks: what the flags want of it.
type recorded struct {
	ctx    context.Context
	r      *pcapng.Reader
	head   []pcapng.Block // read ahead: all up to the first packet
	names  fileNames
	filter *filter.Filter
	drops  bool   // only frames that went nowhere
	cut    int    // bytes of each frame; 0: all
	frames uint64 // at most; 0: no bound
	whole  bool   // nothing is left out, so that the file's books still hold
	snap   int    // bytes, of the interfaces in the head; 0: no bound
	begin  time.Time

	read, given uint64
	lost        []uint64 // by interface: in front of packets that were left out
}

// ahead reads all up to the first packet.
func (f *recorded) ahead() error {
	for first := true; ; {
		b, err := f.r.Next()
		if err != nil && (err != io.EOF || len(f.head) == 0) {
			return err
		}
		if err == io.EOF {
			return nil
		}
		f.head = append(f.head, b)
		switch b := b.(type) {
		case pcapng.Names:
			f.names.add(b)
		case *pcapng.Interface:
			if err := ethernetOnly(b); err != nil {
				return err
			}
			f.names.iface(b)
			if first || f.snap != 0 && (b.SnapLen == 0 || b.SnapLen > f.snap) {
				f.snap = b.SnapLen
			}
			first = false
		case *pcapng.Packet:
			f.begin = time.Unix(0, b.Time)
			return nil
		}
	}
}

func ethernetOnly(i *pcapng.Interface) error {
	if i.LinkType != pcapng.Ethernet {
		return fmt.Errorf("interface %q has frames of link type %d, want Ethernet (%d)", i.Name, i.LinkType, pcapng.Ethernet)
	}
	return nil
}

// Next gives the next block that is wanted.
func (f *recorded) Next() (pcapng.Block, error) {
	for f.ctx.Err() == nil && (f.frames == 0 || f.given < f.frames) {
		var b pcapng.Block
		var err error
		ahead := len(f.head) > 0
		if ahead {
			b, f.head = f.head[0], f.head[1:]
		} else if b, err = f.r.Next(); err != nil {
			return nil, err
		}
		switch b := b.(type) {
		case pcapng.Names:
			if !ahead {
				f.names.add(b)
			}
			continue // the sink asks for all that are known
		case *pcapng.Interface:
			if err := ethernetOnly(b); err != nil {
				return nil, err
			}
			if f.snap != 0 && f.cut == 0 && (b.SnapLen == 0 || b.SnapLen > f.snap) {
				return nil, fmt.Errorf("interface %q keeps more bytes of a frame than the %d of those before it: want -s", b.Name,
					f.snap)
			}
			f.lost = append(f.lost, 0)
		case *pcapng.Stats:
			if !f.whole {
				continue
			}
		case *pcapng.Packet:
			if !f.wants(b) {
				continue
			}
		}
		return b, nil
	}
	return nil, io.EOF
}

// wants tells whether a packet is wanted, and makes it what is wanted of it.
func (f *recorded) wants(p *pcapng.Packet) bool {
	f.read++
	known := uint(p.Interface) < uint(len(f.lost))
	if known {
		p.Drops += f.lost[p.Interface]
		f.lost[p.Interface] = 0
	}
	wire := max(p.Len, len(p.Data))
	if f.drops && !dropped(p) || !f.filter.Match(p.Data, wire) {
		if known {
			f.lost[p.Interface] = p.Drops
		}
		return false
	}
	f.given++
	p.Len = wire
	if f.cut > 0 {
		p.Data = p.Data[:min(f.cut, len(p.Data))]
	}
	return true
}

// dropped tells whether a packet's frame went nowhere.
func dropped(p *pcapng.Packet) bool {
	if d, ok := capture.ReadDetail(p); ok {
		return d.Verdict.Drop()
	}
	return capture.ReadComment(p.Comment)["verdict"] == "drop"
}

// offline reads from a file instead of the daemon.
func (j *job) offline(ctx context.Context) error {
	in, name := j.in, j.o.read
	var disk *os.File
	if name == "-" {
		name = "stdin"
		if isTerminal(in) {
			return failf(exitUsage, "stdin is a terminal: want a capture from a pipe, or a file's name")
		}
	} else {
		f, err := os.Open(name)
		if err != nil {
			return failf(exitNo, "%w", err)
		}
		defer f.Close()
		if j.o.write != "" && j.o.write != "-" && sameFile(j.o.write, f) {
			return failf(exitUsage, "%s would be written while it is read: want another file", name)
		}
		in, disk = f, f
	}
	f := &recorded{ctx: ctx, r: pcapng.NewReader(in), drops: j.o.drops, cut: j.o.snap, frames: j.o.frames}
	f.whole = j.o.filter == "" && !j.o.drops && j.o.frames == 0
	if err := f.ahead(); err != nil {
		return failf(exitNo, "%s: %w", name, err)
	}
	var err error
	then, now := f.host(disk), sync.OnceValue(func() *names {
		n, _ := j.c.names(ctx) // none without a daemon: the file's own remain
		return n
	})
	if f.filter, _, err = compile(j.o.filter, func(name string) []netip.Addr {
		all := then(name)
		if len(all) > 0 { // who had the name then
			return all
		}
		if n := now(); n != nil {
			all = n.Host(name)
		}
		return all
	}); err != nil {
		return err
	}
	snap := f.snap
	if f.cut > 0 && (snap == 0 || snap > f.cut) {
		snap = f.cut
	}
	to, where, err := j.open(&f.names, file.Options{SnapLen: snap, Begin: f.begin})
	if err != nil {
		return err
	}
	if w, ok := to.(*writer); ok {
		w.fixed, w.snap = true, snap
		w.filter = j.o.filter
	}
	defer ignoreBrokenPipes()()
	m := newMeter(to, nil, false)
	src, dst := pump(f, m, func() {})
	if err := m.close(); dst == nil {
		dst = err
	}
	switch {
	case isGone(dst):
		return nil
	case dst != nil:
		return failf(exitNo, "%w", dst)
	case where != nil:
		fmt.Fprintf(j.news, "read %s from %s, wrote %s into %s\n", count(f.read, "frame"), name, thousands(f.given), where())
	default:
		j.show.sum.print(j.news, m.total())
	}
	if src != io.EOF {
		return failf(exitNo, "%s: %w; what comes before was read", name, src)
	}
	return nil
}

// host resolves names by what the file tells. Names may stand anywhere in a file, which is read through for one that is
// not at the beginning; a pipe is not.
func (f *recorded) host(disk *os.File) filter.Names {
	through := disk == nil
	return func(name string) []netip.Addr {
		all := f.names.Host(name)
		if len(all) > 0 || through {
			return all
		}
		through = true
		again, err := os.Open(disk.Name())
		if err != nil {
			return nil
		}
		defer again.Close()
		for r := pcapng.NewReader(again); ; {
			b, err := r.Next()
			switch b := b.(type) {
			case pcapng.Names:
				f.names.add(b)
			case *pcapng.Interface:
				f.names.iface(b)
			}
			if err != nil || f.ctx.Err() != nil {
				return f.names.Host(name)
			}
		}
	}
}
