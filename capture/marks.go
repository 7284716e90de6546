package capture

// marks are positions where records begin, about 128 in the ring, the oldest at its head. A full ring drops all records from
// one mark to the next. So nobody has to read the old records' lengths, which are in no CPU cache any more.
type marks struct {
	queue  [256]mark // a ring buffer, of twice as many as there can be
	oldest uint64    // number of the oldest mark
	next   uint64    // number of the next mark
}

type mark struct {
	at       uint64 // position, as ring.head
	accepted uint64 // frames before that position
}

// nth is the n-th mark that was set.
func (m *marks) nth(n uint64) *mark { return &m.queue[n%uint64(len(m.queue))] }
