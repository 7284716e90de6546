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
		if longest > int(q.limit.Load()) || len(b.heard) > 0 || limits != nil || q.vlans.Load() != nil {
			b.floodFitting(q, limits)
			continue
		}
		q.send(b.flood)
	}
	clear(b.flood)
	clear(b.heard)
	b.flood, b.heard = b.flood[:0], b.heard[:0]
}

// floodFitting sends those frames by q that fit, whose VLAN is q's, whose multicast group q wants, and that its limits let pass; those that do not fit or are beyond a limit
// count as refused.
func (b *batch) floodFitting(q *Port, limits *limits) {
	now, refused := q.sw.now.Load(), 0
	for i, f := range b.flood {
		switch {
		case len(b.heard) > 0 && !b.heard[i].has(q, now) || !q.inVLAN(f):
		case !q.fits(f) || limits != nil && limits.send(b.time(q.sw), f) != Forwarded:
			refused++
		default:
			b.fitting = append(b.fitting, f)
		}
	}
	q.refuse(refused)
	q.send(b.fitting)
	clear(b.fitting)
	b.fitting = b.fitting[:0]
}
