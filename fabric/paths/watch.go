package paths

import (
	"errors"
	"net"

	"github.com/tapestry-net/tapestry/tunnel"
)

// Watch returns a channel that receives after changes of this host's links, addresses and routes, and a function that ends it. failed
// is called if the kernel does not report them any more.
func Watch(failed func(error)) (<-chan struct{}, func()) {
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	changed <- struct{}{} // there may have been changes before the monitor was open
	m, err := tunnel.NewMonitor()
	if err != nil {
		failed(err)
		return changed, func() {}
	}
	go func() {
		defer close(ended)
		for {
			err := m.Wait()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				failed(err)
				return
			}
			select {
			case changed <- struct{}{}:
			default: // one that is pending covers this change too
			}
		}
	}()
	return changed, func() { m.Close(); <-ended }
}
