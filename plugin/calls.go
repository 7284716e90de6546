package plugin

import (
	"sync/atomic"
	"time"
)

// callBounds are the bounds, in seconds, by which calls are counted. dockerd waits for each; after ten seconds one is given up.
var callBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// otherCalls are calls of methods that no driver has.
const otherCalls = "other"

// Calls counts Docker's calls, by method. Its methods may be called by several goroutines.
type Calls struct {
	by map[string]*counts // not changed once it is made
}

type counts struct {
	buckets [len(callBounds) + 1]atomic.Uint64 // each call once; the last one's took longer than all bounds
	nanos   atomic.Int64                       // of all
	errors  atomic.Uint64
}

func newCalls(methods map[string]method) *Calls {
	c := &Calls{by: map[string]*counts{otherCalls: {}}}
	for path := range methods {
		c.by[path[1:]] = new(counts)
	}
	return c
}

func (c *Calls) count(method string, took time.Duration, failed bool) {
	n := c.by[method]
	if n == nil {
		n = c.by[otherCalls]
	}
	i := 0
	for i < len(callBounds) && took.Seconds() > callBounds[i] {
		i++
	}
	n.buckets[i].Add(1)
	n.nanos.Add(int64(took))
	if failed {
		n.errors.Add(1)
	}
}

// A CallCount is what came of Docker's calls of one method.
type CallCount struct {
	Method  string
	Calls   uint64
	Errors  uint64
	Seconds float64            // that all of them took
	Within  map[float64]uint64 // how many took at most so many seconds
}

// Counts gives the counts of the methods that were called, in no order.
func (c *Calls) Counts() (all []CallCount) {
	for method, n := range c.by {
		r := CallCount{Method: method, Errors: n.errors.Load(), Seconds: time.Duration(n.nanos.Load()).Seconds(), Within: make(map[float64]uint64)}
		for i := range n.buckets {
			r.Calls += n.buckets[i].Load()
			if i < len(callBounds) {
				r.Within[callBounds[i]] = r.Calls
			}
		}
		if r.Calls > 0 {
			all = append(all, r)
		}
	}
	return all
}
