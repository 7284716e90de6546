package tunnel

import (
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// Terms of sending, smallest to largest: a datagram carries one frame, or one segment of a super-frame; a train is
// datagrams of one size (the last may be shorter) that are sent as one UDP_SEGMENT message; a sendBatch is the trains
// that are sent by one sendmmsg.
const (
	maxTrain     = 64    // UDP_MAX_SEGMENTS of kernels before 6.9; later ones take 128
	trainBytes   = 65507 // the longest UDP payload over IPv4
	maxTrains    = 64
	maxDatagrams = 512 // of a sendBatch: two full super-frames of the shortest segments
	headRoom     = headerLen + ether.MaxHead
)

// A Link is the tunnel to one remote host on one network: the device of a port of that network's switch.
type Link struct {
	VNI  uint32
	Host netip.AddrPort // destination of datagrams; they are accepted from its address and any port

	wire      Wire
	v         *VTEP
	to        sockaddr
	header    [headerLen]byte
	in        atomic.Pointer[func([]ether.Frame)] // see Bind
	peer      atomic.Pointer[Peer]                // of Host
	strangers *strangers                          // of a group's link; else nil

	mtu                atomic.Int64    // of an inner IP packet
	gso                offload.Feature // UDP_SEGMENT: a train is one message
	remoteSum          atomic.Bool     // the host completes checksums that are left partial
	pathNarrowed       atomic.Bool     // a send was refused as too long (EMSGSIZE)
	wireTx, wireRx     atomic.Uint64   // datagrams, as LinkStats has them
	fragmented         atomic.Uint64   // messages that came in fragments, as LinkStats has them
	full, long, failed atomic.Uint64   // datagrams that were not sent, as LinkStats has them
	tagged             atomic.Uint64   // frames that were not sent, as LinkStats has them
}

// Bind sets the function that receives frames from the host, lent for the call. Before it, they are dropped as no_peer.
func (l *Link) Bind(in func([]ether.Frame)) { l.in.Store(&in) }

// Local is where datagrams from the host arrive.
func (l *Link) Local() netip.AddrPort { return l.v.Local }

// Peer is the host as the other side of the messages between hosts; nil of a multicast group.
func (l *Link) Peer() *Peer { return l.peer.Load() }

// LinkStats counts datagrams; the switch's port counts frames.
type LinkStats struct {
	WireTx, WireRx uint64
	Full           uint64         // the socket's buffer was full
	Long           uint64         // longer than the path MTU (EMSGSIZE)
	Failed         uint64         // any other error: no route, a firewall
	Tagged         uint64         // frames with a VLAN tag, which the network does not send (Wire.DropTagged)
	Fragmented     uint64         // of those received: in fragments, which the kernel has put together; a train in fragments counts once
	GSO            offload.Status // UDP_SEGMENT: a train is one message
	MTU            int            // see SetMTU
	RemoteSum      bool           // the host completes inner checksums
}

// Stats reads the counters.
func (l *Link) Stats() LinkStats {
	return LinkStats{l.wireTx.Load(), l.wireRx.Load(), l.full.Load(), l.long.Load(), l.failed.Load(), l.tagged.Load(), l.fragmented.Load(), l.gso.Status(), int(l.mtu.Load()), l.remoteSum.Load()}
}

// Retry makes a link whose trains were refused try them again: the route may have changed.
func (l *Link) Retry() { l.gso.Retry() }

// SetMTU sets the longest inner IP packet, in bytes. It is needed for super-frames that arrive uncut, see
// ether.Frame.RestoreOffload.
func (l *Link) SetMTU(mtu int) { l.mtu.Store(int64(mtu)) }

// Narrowed tells whether a send was refused as too long since the last call.
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
	iov, vecs int // first vector, and number of vectors
	frame     int // index in the frames of Send
}

type train struct {
	mark       mark
	first, n   int // index of its first datagram, and their number
	size, last int // bytes of the first and the last datagram
	bytes      int // of all
}

// sendBatch is Send's scratch.
type sendBatch struct {
	socket    int // index in VTEP.send
	trains    [maxTrains]train
	nTrains   int
	closed    bool // nothing may be added to the last train
	datagrams [maxDatagrams]datagram
	nData     int
	iovs      [3 * maxDatagrams]syscall.Iovec
	nIovs     int
	heads     [maxDatagrams * headRoom]byte
	nHeads    int
	hdrs      [maxTrains]mmsghdr
	control   [maxTrains]sendControl
	cut       ether.Cutter
	lost      []bool  // by frame: a datagram of it was not sent
	sockets   []uint8 // by frame: index in VTEP.send
	sent      uint64  // datagrams
}

var sendBatches = sync.Pool{New: func() any { return new(sendBatch) }}

// Send sends frames to the remote host. Super-frames are cut, partial checksums completed unless the host does that, and
// frames of one size are sent as a train. The order is kept within a flow. It returns the number of frames of which
// every datagram was sent, and their bytes.
func (l *Link) Send(frames []*ether.Frame) (sent, bytes int) {
	w := sendBatches.Get().(*sendBatch)
	w.lost = append(w.lost[:0], make([]bool, len(frames))...) // this allocates no second slice
	w.sockets = w.sockets[:0]
	var used uint32 // a bit for each socket
	for _, f := range frames {
		socket := uint8(f.Flow() % senders)
		w.sockets = append(w.sockets, socket)
		used |= 1 << socket
	}
	// Socket by socket: otherwise flows that alternate would cost a system call for each frame.
	for ; used != 0; used &= used - 1 {
		w.socket = bits.TrailingZeros32(used)
		for i, f := range frames {
			switch {
			case int(w.sockets[i]) != w.socket:
			case l.wire.DropTagged && ether.IsTagged(f.Bytes()):
				l.tagged.Add(1)
				w.lost[i] = true
			case f.Off.Kind == ether.None:
				l.addFrame(w, i, f)
			default:
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

// addFrame adds an ordinary frame: the VXLAN header is written into the frame's headroom. A completed checksum is a vector
// of its own between two parts of the frame, whose bytes are only lent.
func (l *Link) addFrame(w *sendBatch, i int, f *ether.Frame) {
	header, partial := l.headerFor(f)
	l.makeRoom(w)
	room := f.WithHeadroom()
	copy(room, header[:])
	l.addDatagram(w, i, len(room), l.wire.markOf(f))
	if !partial {
		if at, sum, partial := f.Checksum(); partial {
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

// headerFor is the VXLAN header for a frame. ok: a partial checksum may stay partial, as the header says; otherwise it
// must be completed.
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

// addSegments adds a super-frame's segments: each is a header of its own and a part of the payload, which is not copied.
func (l *Link) addSegments(w *sendBatch, i int, f *ether.Frame) {
	header, partial := l.headerFor(f)
	m := l.wire.markOf(f)
	w.cut.Reset(f)
	w.cut.PartialChecksum = partial
	if w.nTrains > 0 && !w.trains[w.nTrains-1].takesAll(f) {
		w.closed = true // a super-frame in two trains would arrive as two super-frames
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
		l.addDatagram(w, i, headerLen+n+len(payload), m)
		w.addVector(head[:headerLen+n])
		w.addVector(payload)
	}
}

// makeRoom makes sure that one more datagram fits the batch.
func (l *Link) makeRoom(w *sendBatch) {
	if w.nData == maxDatagrams || w.nTrains == maxTrains {
		l.flush(w)
	}
}

// addDatagram adds a datagram of size bytes to the last train, or to a new one if it does not fit there: one message has one mark.
// While trains are disabled, each datagram is a train of its own.
func (l *Link) addDatagram(w *sendBatch, frame, size int, m mark) {
	if w.nTrains == 0 || w.closed || !l.gso.Enabled() || !w.trains[w.nTrains-1].takes(size, m) {
		w.closed = false
		w.trains[w.nTrains] = train{mark: m, first: w.nData, size: size}
		w.nTrains++
	}
	t := &w.trains[w.nTrains-1]
	t.n++
	t.bytes += size
	t.last = size
	w.datagrams[w.nData] = datagram{iov: w.nIovs, frame: frame}
	w.nData++
}

func (t *train) takes(size int, m mark) bool {
	return t.last == t.size && size <= t.size && t.mark == m && t.n < maxTrain && t.bytes+size <= trainBytes
}

// takesAll tells whether all segments of a super-frame fit the train, by their number and length.
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

// flush sends the batch and empties it.
func (l *Link) flush(w *sendBatch) {
	for i := range w.nTrains {
		t := &w.trains[i]
		first, last := &w.datagrams[t.first], &w.datagrams[t.first+t.n-1]
		segment := 0
		if t.n > 1 {
			segment = t.size
		}
		l.setMessage(w, i, first.iov, last.iov+last.vecs-first.iov, segment, t.mark)
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

// setMessage prepares the i-th message of n vectors: one datagram, or a train with datagrams of segment bytes.
func (l *Link) setMessage(w *sendBatch, i, iov, n, segment int, m mark) {
	h, c := &w.hdrs[i].hdr, &w.control[i]
	h.Name, h.Namelen = l.to.ptr(), l.to.len
	h.Iov, h.Iovlen = &w.iovs[iov], uint64(n)
	c.n = 0
	if segment > 0 {
		c.addSegment(segment)
	}
	if m != (mark{}) {
		c.addMark(m, l.to.raw.Family == syscall.AF_INET6)
	}
	c.attach(h)
}

// handleRefused handles a train that the kernel has refused. If it may have refused trains as such (EIO: the device cannot
// compute checksums; EINVAL: no segmentation on this route), the datagrams are sent one by one. If that works, the link
// makes no more trains.
func (l *Link) handleRefused(w *sendBatch, t *train, errno syscall.Errno) {
	if t.n == 1 || errno != syscall.EIO && errno != syscall.EINVAL && errno != syscall.EMSGSIZE {
		l.countFailed(w, t.first, t.n, errno)
		return
	}
	went, first := 0, false
	for i := range t.n {
		d := &w.datagrams[t.first+i]
		l.setMessage(w, 0, d.iov, d.vecs, 0, t.mark) // the first message was handled already, so its slot is free
		if _, errno := l.v.transmit(w.socket, w.hdrs[:1]); errno != 0 {
			l.countFailed(w, t.first+i, 1, errno)
			continue
		}
		first = first || i == 0
		went++
	}
	w.sent += uint64(went)
	if first { // only the last one may be short enough for the path, which says nothing about trains
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
