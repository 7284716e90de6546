package vswitch

// sendFlood sends the collected frames to every port but in, and to no uplink if in is one: in a full mesh that is
// loop-free (split horizon). They count as refused by a port that is down, or sparse and over its budget.
func (b *batch) sendFlood(in *Port) {
	if len(b.flood) == 0 {
		return
	}
	longest := 0
	for _, f := range b.flood {
		longest = max(longest, f.WireLen())
	}
	for _, q := range *in.sw.ports.Load() {
		if q == in || in.Uplink && q.Uplink || q.reached.Load() {
			continue
		}
		if q.IsDown() || !q.floodable() {
			q.refuse(len(b.flood))
			continue
		}
		limits := q.limits.Load()
		if longest > int(q.limit.Load()) || len(b.heard) > 0 || limits != nil || q.vlans.Load() != nil || in.mss() != 0 || q.mss() != 0 {
			b.floodFitting(in, q, limits)
			continue
		}
		q.send(b.flood)
	}
	clear(b.flood)
	clear(b.heard)
	b.flood, b.heard = b.flood[:0], b.heard[:0]
}

// floodFitting sends those frames by q that fit, whose VLAN is q's, whose multicast group q wants, and that its limits let pass, with the MSS that q's way takes; those that do not
// fit or are beyond a limit count as refused.
func (b *batch) floodFitting(in, q *Port, limits *limits) {
	now, refused := q.sw.now.Load(), 0
	for i, f := range b.flood {
		switch {
		case len(b.heard) > 0 && !b.heard[i].has(q, now) || !q.inVLAN(f):
		case !q.fits(f) || limits != nil && limits.send(b.time(q.sw), f) != Forwarded:
			refused++
		default:
			if b.flooded.n == maxSYNs {
				b.sendFitting(q)
			}
			b.fitting = append(b.fitting, b.flooded.lower(in, q, f))
		}
	}
	q.refuse(refused)
	b.sendFitting(q)
}

func (b *batch) sendFitting(q *Port) {
	q.send(b.fitting)
	clear(b.fitting)
	b.fitting = b.fitting[:0]
	b.flooded.clear()
}
