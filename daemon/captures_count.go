package daemon

// ended sums up captures that have ended.
type ended struct{ read, lost uint64 } // frames

// countEnded adds a capture that has ended, with its last counts, to those before.
func (c *Captures) countEnded(s *activeCapture, read, lost uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.counted {
		s.counted = true
		c.ended.read, c.ended.lost = c.ended.read+read, c.ended.lost+lost
	}
}

// totals are how many captures run and how many wait for a reader, and the frames that were read and lost of all captures that ever ran.
// What takes longer than a look at each capture is done without the lock.
func (c *Captures) totals() (running, waiting int, read, lost uint64) {
	c.mu.Lock()
	read, lost = c.ended.read, c.ended.lost
	var all []*activeCapture
	for _, s := range c.all {
		if !s.counted {
			all = append(all, s)
		}
	}
	c.mu.Unlock()
	for _, s := range all {
		switch {
		case s.awaitsReader():
			waiting++
		case s.lasted.Load() == 0:
			running++
		}
		b := s.stats()
		read, lost = read+b.Delivered, lost+b.Dropped
	}
	return running, waiting, read, lost
}
