package tunnel

import (
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// Terms of the way out, smallest to largest: a datagram carries one frame or one segment of a
// super-frame; a train is datagrams of one size (the last perhaps shorter) that one UDP_SEGMENT
// message carries; a load is the trains of one sendmmsg.
const (
	maxTrain     = 64    // UDP_MAX_SEGMENTS of the kernels before 6.9; later ones take 128
	trainBytes   = 65507 // the longest UDP payload over IPv4
	maxTrains    = 64
	maxDatagrams = 512 // datagrams of a load: two full super-frames of the shortest segments
	headRoom     = headerLen + ether.MaxHead
)

// A Link is the way to one remote host on one network. It is a port of that network's switch.
type Link struct {
	VNI  uint32
	Host netip.AddrPort // where datagrams go; they are accepted from its address and any port

	v      *VTEP
	to     sockaddr
	header [headerLen]byte
	in     atomic.Pointer[func([]ether.Frame)]
	peer   atomic.Pointer[Peer] // the host

	mtu                atomic.Int64    // of an inner IP packet
	gso                offload.Feature // trains go as one message
	remoteSum          atomic.Bool     // the host finishes checksums that we leave open
	pathNarrowed       atomic.Bool     // the kernel says that the path is narrower than we thought
	wireTx, wireRx     atomic.Uint64
	full, long, failed atomic.Uint64
}

// Link opens the way to host for one VNI. A VNI has one link to each host address.
func (v *VTEP) Link(vni uint32, host netip.AddrPort) (*Link, error) {
	if vni == 0 || vni > ether.MaxVNI {
		return nil, fmt.Errorf("VNI %d: want 1 to %d", vni, ether.MaxVNI)
	}
	if err := SameFamily(v.Local.Addr(), host.Addr()); err != nil {
		return nil, err
	}
	header, err := template(vni)
	if err != nil {
		return nil, fmt.Errorf("write the VXLAN header of VNI %d: %w", vni, err)
	}
	l := &Link{VNI: vni, Host: host, v: v, to: rawSockaddr(host), header: header}
	err = v.changeLinks(func(links map[linkKey]*Link) error {
		k := linkKey{vni, host.Addr()}
		if _, taken := links[k]; taken {
			return fmt.Errorf("VNI %d has a link to %s already", vni, host.Addr())
		}
		links[k] = l
		return v.addPeer(l, links)
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// SameFamily tells whether a peer can be reached from a VTEP: both are of one IP version.
func SameFamily(vtep, peer netip.Addr) error {
	if vtep.Is4() != peer.Is4() {
		return fmt.Errorf("peer %s and this host's VTEP %s are of different IP versions: give the peer's other address, or start tapestry with another --vtep", peer, vtep)
	}
	return nil
}

// Bind says where frames from the host go; until then they are a stranger's.
func (l *Link) Bind(in func([]ether.Frame)) { l.in.Store(&in) }

// Close ends the link: datagrams from the host are strangers' from now on.
func (l *Link) Close() error {
	return l.v.changeLinks(func(links map[linkKey]*Link) error {
		if k := (linkKey{l.VNI, l.Host.Addr()}); links[k] == l { // a second Close may find another there
			delete(links, k)
			return l.v.removePeer(l, links)
		}
		return nil
	})
}

// LinkStats counts datagrams; the switch's port counts frames.
type LinkStats struct {
	WireTx, WireRx uint64
	Full           uint64         // the socket's buffer was full
	Long           uint64         // longer than the path takes (EMSGSIZE)
	Failed         uint64         // any other refusal: no route, a firewall
	GSO            offload.Status // trains go as one message
	MTU            int            // as SetMTU said
	RemoteSum      bool           // the host finishes inner checksums
}

// Stats reads the counters.
func (l *Link) Stats() LinkStats {
	return LinkStats{l.wireTx.Load(), l.wireRx.Load(), l.full.Load(), l.long.Load(), l.failed.Load(), l.gso.Status(), int(l.mtu.Load()), l.remoteSum.Load()}
}

// Retry lets a link whose trains were refused try again: the route may have changed.
func (l *Link) Retry() { l.gso.Retry() }

// SetMTU says how long an inner IP packet may be, in bytes. It is wanted for super-frames that arrive
// uncut, see ether.Frame.RestoreOffload.
func (l *Link) SetMTU(mtu int) { l.mtu.Store(int64(mtu)) }

// Narrowed tells, once, that the path turned out narrower than what was sent.
func (l *Link) Narrowed() bool { return l.pathNarrowed.Swap(false) }

func (l *Link) deliver(frames []ether.Frame) {
	in := l.in.Load()
	if in == nil {
		l.v.rxDropped[noPeer].Add(uint64(len(frames)))
		return
	}
	l.wireRx.Add(uint64(len(frames)))
	(*in)(frames)
}

type datagram struct {
	iov, vecs int // its vectors
	frame     int // index in the lot
}

type train struct {
	first, n   int // its datagrams
	size, last int // bytes of the first and the last datagram
	bytes      int // of all
}

// sendBatch is Send's scratch.
type sendBatch struct {
	socket    int // index in VTEP.send
	trains    [maxTrains]train
	nTrains   int
	closed    bool // the last train takes no more
	datagrams [maxDatagrams]datagram
	nData     int
	iovs      [3 * maxDatagrams]syscall.Iovec
	nIovs     int
	heads     [maxDatagrams * headRoom]byte
	nHeads    int
	hdrs      [maxTrains]mmsghdr
	control   [maxTrains][segmentControl]byte
	cut       ether.Cutter
	lost      []bool  // by frame of the lot
	sockets   []uint8 // by frame of the lot
	sent      uint64  // datagrams
}

var sendBatches = sync.Pool{New: func() any { return new(sendBatch) }}

// Send sends frames to the remote host: super-frames are cut, with their checksums finished, and
// frames of one size and flow leave as one train, order kept within a flow. It gives the number of
// frames of which every datagram was sent, and their bytes.
func (l *Link) Send(frames []*ether.Frame) (sent, bytes int) {
	w := sendBatches.Get().(*sendBatch)
	w.lost = append(w.lost[:0], make([]bool, len(frames))...) // the compiler makes no slice for it
	w.sockets = w.sockets[:0]
	var used uint32 // a bit for each socket
	for _, f := range frames {
		socket := uint8(f.Flow() % senders)
		w.sockets = append(w.sockets, socket)
		used |= 1 << socket
	}
	// Socket by socket: flows that alternate would else cost a call for each frame.
	for ; used != 0; used &= used - 1 {
		w.socket = bits.TrailingZeros32(used)
		for i, f := range frames {
			if int(w.sockets[i]) != w.socket {
				continue
			}
			if f.Off.Kind == ether.None {
				l.addFrame(w, i, f)
			} else {
				l.addSegments(w, i, f)
			}
		}
		l.flush(w)
	}
	for i, f := range frames {
		if !w.lost[i] {
			sent++
			bytes += f.Len()
		}
	}
	l.wireTx.Add(w.sent)
	w.sent = 0
	sendBatches.Put(w)
	return sent, bytes
}

// addFrame adds an ordinary frame: its header goes into the frame's headroom, and a checksum that is to be finished in
// between two parts of the frame, which is only lent.
func (l *Link) addFrame(w *sendBatch, i int, f *ether.Frame) {
	header, unsummed := l.headerFor(f)
	l.makeRoom(w)
	room := f.WithHeadroom()
	copy(room, header[:])
	l.addDatagram(w, i, len(room))
	if !unsummed {
		if at, sum, open := f.Checksum(); open {
			field := w.heads[w.nHeads:][:copy(w.heads[w.nHeads:], sum[:])]
			w.nHeads += len(field)
			at += ether.Headroom
			w.addVector(room[:at])
			w.addVector(field)
			room = room[at+len(field):]
		}
	}
	w.addVector(room)
}

// headerFor gives the VXLAN header for a frame; false: its checksums must be finished.
func (l *Link) headerFor(f *ether.Frame) (header [headerLen]byte, ok bool) {
	header = l.header
	if !f.Off.PartialChecksum || !l.remoteSum.Load() {
		return header, false
	}
	last, ok := remoteSumByte(f.Off)
	if ok {
		header[1] |= flagC
		header[headerLen-1] = last
	}
	return header, ok
}

// addSegments adds a super-frame's segments: each a header of its own and a part of the borrowed payload.
func (l *Link) addSegments(w *sendBatch, i int, f *ether.Frame) {
	header, unsummed := l.headerFor(f)
	w.cut.Reset(f)
	w.cut.PartialChecksum = unsummed
	if w.nTrains > 0 && !w.trains[w.nTrains-1].takesAll(f) {
		w.closed = true // a super-frame in two trains would be two at the other end, too
	}
	for {
		l.makeRoom(w)
		head := w.heads[w.nHeads:][:headRoom]
		n, payload, ok := w.cut.Next(head[headerLen:])
		if !ok {
			return
		}
		copy(head, header[:])
		w.nHeads += headerLen + n
		l.addDatagram(w, i, headerLen+n+len(payload))
		w.addVector(head[:headerLen+n])
		w.addVector(payload)
	}
}

// makeRoom makes sure that one more datagram fits the load.
func (l *Link) makeRoom(w *sendBatch) {
	if w.nData == maxDatagrams || w.nTrains == maxTrains {
		l.flush(w)
	}
}

// addDatagram adds a datagram of size bytes to the last train, or to a new one if it does not fit there.
// Where trains are refused, each datagram is one.
func (l *Link) addDatagram(w *sendBatch, frame, size int) {
	if w.nTrains == 0 || w.closed || !l.gso.Enabled() || !w.trains[w.nTrains-1].takes(size) {
		w.closed = false
		w.trains[w.nTrains] = train{first: w.nData, size: size}
		w.nTrains++
	}
	t := &w.trains[w.nTrains-1]
	t.n++
	t.bytes += size
	t.last = size
	w.datagrams[w.nData] = datagram{iov: w.nIovs, frame: frame}
	w.nData++
}

func (t *train) takes(size int) bool {
	return t.last == t.size && size <= t.size && t.n < maxTrain && t.bytes+size <= trainBytes
}

// takesAll tells whether every segment of a super-frame goes on the train, for all that its length says.
func (t *train) takesAll(f *ether.Frame) bool {
	n := (f.Len() - int(f.Off.Head) + int(f.Off.Segment) - 1) / int(f.Off.Segment)
	return t.n+n <= maxTrain && t.bytes+f.Len()+n*(headerLen+int(f.Off.Head)) <= trainBytes
}

// addVector adds bytes to the datagram just begun.
func (w *sendBatch) addVector(b []byte) {
	if len(b) == 0 {
		return
	}
	w.iovs[w.nIovs].Base = &b[0]
	w.iovs[w.nIovs].SetLen(len(b))
	w.nIovs++
	w.datagrams[w.nData-1].vecs++
}

// flush sends the load and empties it.
func (l *Link) flush(w *sendBatch) {
	for i := range w.nTrains {
		t := &w.trains[i]
		first, last := &w.datagrams[t.first], &w.datagrams[t.first+t.n-1]
		l.setMessage(w, i, first.iov, last.iov+last.vecs-first.iov)
		if h := &w.hdrs[i].hdr; t.n > 1 {
			setSegment(&w.control[i], uint16(t.size))
			h.Control = &w.control[i][0]
			h.SetControllen(segmentControl)
		}
	}
	for i := 0; i < w.nTrains; {
		n, errno := l.v.transmit(w.socket, w.hdrs[i:w.nTrains])
		for range n {
			w.sent += uint64(w.trains[i].n)
			i++
		}
		if errno != 0 {
			l.handleRefused(w, &w.trains[i], errno)
			i++
		}
	}
	runtime.KeepAlive(l)
	w.nTrains, w.nData, w.nIovs, w.nHeads, w.closed = 0, 0, 0, 0, false
}

// setMessage prepares the i-th message of n vectors.
func (l *Link) setMessage(w *sendBatch, i, iov, n int) {
	h := &w.hdrs[i].hdr
	h.Name, h.Namelen = l.to.ptr(), l.to.len
	h.Iov, h.Iovlen = &w.iovs[iov], uint64(n)
	h.Control = nil
	h.SetControllen(0)
}

// handleRefused deals with a train that the kernel did not take. If it was the train as such that displeased
// (EIO: the device cannot sum; EINVAL: no segmentation on this route), its datagrams go one by one,
// and if they do go the link makes no more trains.
func (l *Link) handleRefused(w *sendBatch, t *train, errno syscall.Errno) {
	if t.n == 1 || errno != syscall.EIO && errno != syscall.EINVAL && errno != syscall.EMSGSIZE {
		l.countFailed(w, t.first, t.n, errno)
		return
	}
	went, first := 0, false
	for i := range t.n {
		d := &w.datagrams[t.first+i]
		l.setMessage(w, 0, d.iov, d.vecs) // the first has been dealt with
		if _, errno := l.v.transmit(w.socket, w.hdrs[:1]); errno != 0 {
			l.countFailed(w, t.first+i, 1, errno)
			continue
		}
		first = first || i == 0
		went++
	}
	w.sent += uint64(went)
	if first { // the last may be short enough for a path that the others are too long for
		l.gso.CountFallback(went)
		l.gso.Disable(errno)
	}
}

// countFailed counts datagrams that were not sent, and marks their frames.
func (l *Link) countFailed(w *sendBatch, first, n int, errno syscall.Errno) {
	for _, d := range w.datagrams[first:][:n] {
		w.lost[d.frame] = true
	}
	switch errno {
	case syscall.EAGAIN, syscall.ENOBUFS:
		l.full.Add(uint64(n))
	case syscall.EMSGSIZE:
		l.long.Add(uint64(n))
		l.pathNarrowed.Store(true)
	default:
		l.failed.Add(uint64(n))
	}
}
