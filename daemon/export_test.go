package daemon

// Memories gives the bytes of memory that captures have, also ended ones, by id.
func Memories(c *Captures) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]int)
	for id, s := range c.all {
		all[id] = s.sub.Memory()
	}
	return all
}
