package capture

// losses counts the dropped frames of each port until the next frame of that port is kept. It is a hash table of fixed size
// with linear probing, since a drop must cost little. Ports that do not fit are counted together.
type losses struct {
	slots [256]loss
	sum   uint64 // of all slots
	other uint64 // of ports that did not fit
}

type loss struct {
	port uint32
	n    uint32
}

func (l *losses) add(port uint32) {
	for i := range uint32(len(l.slots)) {
		s := &l.slots[(port+i)%uint32(len(l.slots))]
		if s.port == port || s.port == 0 {
			s.port = port
			s.n++
			l.sum++
			return
		}
	}
	l.other++
}

// take returns a port's count and resets it. The slot stays in use, since probing for another port may pass it.
func (l *losses) take(port uint32) (n uint32) {
	if l.sum == 0 {
		return 0
	}
	for i := range uint32(len(l.slots)) {
		s := &l.slots[(port+i)%uint32(len(l.slots))]
		if s.port == port {
			n, s.n = s.n, 0
			if l.sum -= uint64(n); l.sum == 0 {
				clear(l.slots[:]) // all counts are 0: make room for other ports
			}
			return n
		}
		if s.port == 0 {
			break
		}
	}
	return 0
}
