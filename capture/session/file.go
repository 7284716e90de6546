package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// A File is a BlockReader of a capture file. It gives the packets that the flags select.
type File struct {
	ctx        context.Context
	r          *pcapng.Reader
	head       []pcapng.Block // blocks up to the first packet, read by readHead
	Names      show.FileNames
	filter     linkFilters
	drops      bool   // only frames that went nowhere
	cut        int    // bytes of each frame; 0: all
	frames     uint64 // at most; 0: no bound
	statistics bool   // keep those of the file: they are true as long as no packet is left out
	snap       int    // bytes, of what is written; 0: no bound
	link       int    // type of the first packet
	begin      time.Time

	read, matched uint64
	metadataBytes int      // memory for blocks that are kept, in bytes, approximately
	links         []int    // by interface
	lost          []uint64 // by interface: drop counts of packets that were left out, for the next one that is not
}

// Interfaces, names and statistics are kept in memory, and a small compressed file can expand to any number of them. These are
// the bounds: blocks before the first packet, and bytes that they and all interfaces may take.
const (
	maxHead     = 1 << 17
	maxMetadata = 64 << 20
)

// next reads a block, and accounts for it if it is an interface.
func (f *File) next() (pcapng.Block, error) {
	b, err := f.r.Next()
	if i, ok := b.(*pcapng.Interface); ok {
		return b, f.account(len(i.Name) + len(i.Description) + len(i.Filter) + len(i.Hardware) + len(i.Comment) + 32*len(i.Addrs))
	}
	return b, err
}

// account adds to the memory that is kept, and returns an error beyond maxMetadata.
func (f *File) account(bytes int) error {
	const room = 200 // about the size of a block's struct
	if f.metadataBytes += room + bytes; f.metadataBytes > maxMetadata {
		return fmt.Errorf("it tells more than %d MiB beside its packets: want a capture", maxMetadata>>20)
	}
	return nil
}

// readHead reads the blocks up to the first packet.
func (f *File) readHead() error {
	var links []int
	for f.link = pcapng.Ethernet; len(f.head) < maxHead; {
		b, err := f.next()
		if err != nil && (err != io.EOF || len(f.head) == 0) {
			return err
		}
		if err == io.EOF {
			return nil
		}
		f.head = append(f.head, b)
		switch b := b.(type) {
		case *pcapng.Section:
			f.snap = 0
			err = f.account(len(b.Hardware) + len(b.OS) + len(b.Application) + len(b.Comment))
		case pcapng.Names:
			f.Names.Add(b)
			size := 0
			for _, n := range b {
				size += 48 + len(n.Name)
			}
			err = f.account(size)
		case *pcapng.Interface:
			f.Names.AddInterface(b)
			if links = append(links, b.LinkType); len(links) == 1 {
				f.link = b.LinkType
			}
		case *pcapng.Stats:
			err = f.account(len(b.Comment))
		case *pcapng.Packet:
			f.link, f.begin = links[b.Interface], time.Unix(0, b.Time)
			f.snap = f.trustedSnapLen()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("no packet among its first blocks: want a capture")
}

// trustedSnapLen returns the snap length of all interfaces of the head if they agree and this program wrote the file, else 0: other
// programs write packets that are longer than the snap length.
func (f *File) trustedSnapLen() (snap int) {
	for _, b := range f.head {
		switch b := b.(type) {
		case *pcapng.Section:
			if !strings.HasPrefix(b.Application, application) {
				return 0
			}
		case *pcapng.Interface:
			if snap != 0 && snap != b.SnapLen {
				return 0
			}
			snap = b.SnapLen
		}
	}
	return snap
}

// Next returns the next block that the flags select.
func (f *File) Next() (pcapng.Block, error) {
	for f.ctx.Err() == nil && (f.frames == 0 || f.matched < f.frames) {
		var b pcapng.Block
		var err error
		ahead := len(f.head) > 0
		if ahead {
			b, f.head = f.head[0], f.head[1:]
		} else if b, err = f.next(); err != nil {
			return nil, err
		}
		switch b := b.(type) {
		case pcapng.Names:
			if !ahead && f.Names.Add(b) {
				if err := f.filter.recompile(); err != nil {
					return nil, err
				}
			}
			continue // the writer asks the Resolver for them
		case *pcapng.Interface:
			f.links, f.lost = append(f.links, b.LinkType), append(f.lost, 0)
		case *pcapng.Stats:
			if !f.statistics {
				continue
			}
		case *pcapng.Packet:
			if wanted, err := f.match(b); err != nil || !wanted {
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		return b, nil
	}
	return nil, io.EOF
}

// match reports whether the flags select a packet. It cuts the packet to the snap length, and gives it the drop counts of the
// packets before it that were left out.
func (f *File) match(p *pcapng.Packet) (bool, error) {
	f.read++
	p.Drops += f.lost[p.Interface]
	f.lost[p.Interface] = 0
	wire := max(p.Len, len(p.Data))
	wanted := !f.drops || dropped(p)
	if wanted {
		only, err := f.filter.forLink(f.links[p.Interface])
		if err != nil {
			return false, err
		}
		wanted = only.Match(p.Data, wire)
	}
	if !wanted {
		f.lost[p.Interface] = p.Drops
		return false, nil
	}
	f.matched++
	p.Len = wire
	if f.cut > 0 {
		p.Data = p.Data[:min(f.cut, len(p.Data))]
	}
	return true, nil
}

// linkFilters are an expression, compiled for each link type that occurs.
type linkFilters struct {
	expr     string
	names    filter.Names
	compiled map[int]*filter.Filter
	hasNames bool // the expression has names of hosts in it
}

// forLink returns the filter for a link type, compiled at its first packet.
func (l *linkFilters) forLink(link int) (*filter.Filter, error) {
	if f, ok := l.compiled[link]; ok {
		return f, nil
	}
	f, want, err := docker.CompileFilterFor(link, l.expr, l.names)
	if err != nil {
		return nil, err
	}
	if l.compiled == nil {
		l.compiled = make(map[int]*filter.Filter)
	}
	l.compiled[link], l.hasNames = f, l.hasNames || len(want.Names) > 0
	return f, nil
}

// recompile compiles the expression again if it has names in it, since the file has given new addresses.
func (l *linkFilters) recompile() error {
	if !l.hasNames {
		return nil
	}
	for _, link := range slices.Sorted(maps.Keys(l.compiled)) {
		delete(l.compiled, link)
		if _, err := l.forLink(link); err != nil {
			return err
		}
	}
	return nil
}

// Lost returns the drop counts, by interface, that no packet has taken up: those of packets that the filter left out at the end.
func (f *File) Lost() []uint64 { return f.lost }

// dropped reports whether the switch dropped the packet's frame.
func dropped(p *pcapng.Packet) bool {
	if d, ok := capture.ReadDetail(p); ok {
		return d.Verdict.Drop()
	}
	return capture.ReadComment(p.Comment)["verdict"] == "drop"
}

// OpenFile opens the file that -r names, or stdin (-), reads its head and compiles the filter. The File gives all packets that the
// filter lets pass, and the file's statistics. from is to be closed; name is for messages.
func OpenFile(ctx context.Context, c *client.Client, path string, stdin io.Reader, expr string) (f *File, from *file.Source,
	name string, err error) {
	if name = path; path == "-" {
		name = "stdin"
		if human.IsTerminal(stdin) {
			return nil, nil, name, exit.Errorf(exit.Usage, "stdin is a terminal: want a capture from a pipe, or a file's name")
		}
		if from, err = file.Unpack(stdin); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	} else {
		from, err = file.Open(path)
	}
	if err != nil {
		return nil, nil, name, exit.Errorf(exit.Failure, "%w", err)
	}
	f = &File{ctx: ctx, statistics: true, r: pcapng.NewReader(from)}
	if err = f.readHead(); err != nil {
		from.Close()
		return nil, nil, name, exit.Errorf(exit.Failure, "%s: %w", name, err)
	}
	now := sync.OnceValue(func() *docker.Names {
		n, _ := docker.LoadNames(ctx, c) // none without a daemon: the file's own remain
		return n
	})
	then := f.hostAddrs(from.Disk)
	f.filter = linkFilters{expr: expr, names: func(name string) []netip.Addr {
		all := then(name)
		if len(all) > 0 { // the file's names come first: they are of the time of the capture
			return all
		}
		if n := now(); n != nil {
			all = n.Addrs(name)
		}
		return all
	}}
	if _, err = f.filter.forLink(f.link); err != nil {
		from.Close()
		return nil, nil, name, err
	}
	return f, from, name, nil
}

// readFile is capture -r and watch -r: it reads from a file in place of the daemon.
func (j *Job) readFile(ctx context.Context) error {
	f, from, name, err := OpenFile(ctx, j.Client, j.Read, j.In, j.Filter)
	if err != nil {
		return err
	}
	defer from.Close()
	if from.Disk != nil && j.Write != "" && j.Write != "-" && sameFile(j.Write, from.Disk) {
		return exit.Errorf(exit.Usage, "%s would be written while it is read: want another file", name)
	}
	f.drops, f.cut, f.frames = j.Drops, j.Snap, j.Frames
	f.statistics = j.Filter == "" && !j.Drops && j.Frames == 0
	snap := f.snap
	if f.cut > 0 && (snap == 0 || snap > f.cut) {
		snap = f.cut
	}
	to, where, err := j.openOutput(&f.Names, file.Options{LinkType: f.link, SnapLen: snap, Begin: f.begin})
	if err != nil {
		return err
	}
	if w, ok := to.(*show.FileWriter); ok {
		w.OneSnapLen, w.SnapLen = true, snap
	}
	defer show.IgnoreBrokenPipes()()
	m := show.NewProgress(to, nil, false)
	src, dst := show.CopyBlocks(f, m, func() {})
	dst = cmp.Or(dst, m.Close())
	switch {
	case show.IsReaderGone(dst):
		return nil
	case dst != nil:
		return exit.Errorf(exit.Failure, "%w", dst)
	case where != nil:
		if ctx.Err() != nil {
			name += " (interrupted)"
		}
		fmt.Fprintf(j.Messages, "read %s from %s, wrote %s\n", human.Count(f.read, "frame"), name, where.describe(file.Count{Frames: f.matched, Packets: f.matched}, human.Thousands(f.matched)))
	default:
		j.printer.Summary.Print(j.Messages, m.Lost())
	}
	if src != io.EOF {
		return exit.Errorf(exit.Failure, "%s: %w; before that %s could be read", name, src, human.Count(f.read, "frame"))
	}
	return nil
}

// hostAddrs returns a resolver of the file's names for filters. Names may stand anywhere in a file, so a regular file is read
// to its end at the first question; of a pipe only the names up to here are known.
func (f *File) hostAddrs(disk *os.File) filter.Names {
	through := disk == nil
	if disk != nil {
		i, err := disk.Stat()
		through = err != nil || !i.Mode().IsRegular()
	}
	return func(name string) []netip.Addr {
		if through {
			return f.Names.Addrs(name)
		}
		through = true
		again, err := file.Open(disk.Name())
		if err != nil {
			return f.Names.Addrs(name)
		}
		defer again.Close()
		for r := pcapng.NewReader(again); ; {
			b, err := r.Next()
			switch b := b.(type) {
			case pcapng.Names:
				f.Names.AddForFilters(b)
			case *pcapng.Interface:
				f.Names.AddInterface(b)
			}
			if err != nil || f.ctx.Err() != nil {
				return f.Names.Addrs(name)
			}
		}
	}
}
