package vswitch

// ages are the learned stations of one port, the one that was not seen for the longest time first. They are a binary heap by when each was
// filed, which is when it had been seen last at that time: being seen again files nothing, so that the data path stores a number and no more. A
// station that comes to the top and was seen since is filed anew. So finding the oldest costs a few steps and one such filing for each time that
// a station was seen, however many there are.
type ages struct {
	heap  []*station
	steps int // levels of the heap that were passed, for tests
}

func (a *ages) len() int { return len(a.heap) }

// add files a station.
func (a *ages) add(s *station) {
	s.filed, s.slot = s.seen.Load(), len(a.heap)
	a.heap = append(a.heap, s)
	a.up(s.slot)
}

// remove takes a station out.
func (a *ages) remove(s *station) {
	at, last := s.slot, len(a.heap)-1
	a.swap(at, last)
	a.heap[last] = nil
	a.heap = a.heap[:last]
	s.slot = -1
	if at < last {
		a.down(at)
		a.up(at)
	}
}

// oldest is the station that was not seen for the longest time; nil if there is none.
func (a *ages) oldest() *station {
	if len(a.heap) == 0 {
		return nil
	}
	for {
		s := a.heap[0]
		seen := s.seen.Load()
		if seen == s.filed {
			return s
		}
		s.filed = seen
		a.down(0)
	}
}

func (a *ages) swap(i, j int) {
	a.heap[i], a.heap[j] = a.heap[j], a.heap[i]
	a.heap[i].slot, a.heap[j].slot = i, j
}

// up moves a station to the top as far as it is older than those above it.
func (a *ages) up(i int) {
	for i > 0 && a.heap[i].filed < a.heap[(i-1)/2].filed {
		a.steps++
		a.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

// down moves a station from the top as far as it is younger than those below it.
func (a *ages) down(i int) {
	for child := 2*i + 1; child < len(a.heap); child = 2*i + 1 {
		a.steps++
		if child+1 < len(a.heap) && a.heap[child+1].filed < a.heap[child].filed {
			child++
		}
		if a.heap[i].filed <= a.heap[child].filed {
			return
		}
		a.swap(i, child)
		i = child
	}
}
