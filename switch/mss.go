package vswitch

import "github.com/tapestry-net/tapestry/ether"

// AutoMSS is a Policy.MSS.
const AutoMSS = -1

// mss is Policy.MSS of the port.
func (p *Port) mss() int {
	if policy := p.policy.Load(); policy != nil {
		return policy.MSS
	}
	return 0
}

// lowersMSS is the MSS that f, which p has received, has where it leaves by q; 0: its own, or it has none.
func (p *Port) lowersMSS(q *Port, f *ether.Frame) (mss int) {
	own, headers := f.MSS()
	if own == 0 {
		return 0
	}
	for _, x := range [...]struct {
		most  int
		other *Port
	}{{p.mss(), q}, {q.mss(), p}} {
		if x.most == AutoMSS {
			x.most = 0
			if x.other.Uplink {
				x.most = x.other.packetLimit(f) - headers
			}
		}
		if x.most > 0 && x.most < own {
			own, mss = x.most, x.most
		}
	}
	return mss
}

// maxSYNs is the maximum of frames that a batch changes before it sends them.
const maxSYNs = 16

// synBatch are copies of frames with a lower MSS, since their bytes are lent. They are there until clear.
type synBatch struct {
	n      int
	frames [maxSYNs]ether.Frame
	room   []byte
}

// lower is f, which p has received, as it is to leave by q: f itself, or a copy with a lower MSS, for which there is room.
func (b *synBatch) lower(p, q *Port, f *ether.Frame) *ether.Frame {
	if p.mss() == 0 && q.mss() == 0 || !f.IsSYN() {
		return f
	}
	mss := p.lowersMSS(q, f)
	if mss == 0 {
		return f
	}
	b.frames[b.n], b.room = f.AppendMSS(b.room, uint16(mss))
	b.n++
	p.sw.lowered.Add(1)
	return &b.frames[b.n-1]
}

// last is the latest copy.
func (b *synBatch) last() []ether.Frame { return b.frames[b.n-1 : b.n] }

func (b *synBatch) clear() {
	clear(b.frames[:b.n])
	b.n, b.room = 0, b.room[:0]
}

// Lowered is how many frames have left with a lower MSS than they came with.
func (s *Switch) Lowered() uint64 { return s.lowered.Load() }
