package poll

import (
	"time"

	"golang.org/x/sys/unix"
)

// holdMs is how long a source is left alone that has read more than it may, in milliseconds.
const holdMs = 1

// hold leaves a source alone until release.
func (w *worker) hold(key int32, e *entry) {
	if w.control(unix.EPOLL_CTL_MOD, e.source.Fd(), key, 0) != nil {
		return // Remove was faster
	}
	if len(w.held) == 0 {
		w.since = time.Now()
	}
	w.held = append(w.held, key)
}

// release has sources read again whose time is up.
func (w *worker) release() {
	if len(w.held) == 0 || time.Since(w.since) < holdMs*time.Millisecond {
		return
	}
	for _, key := range w.held {
		if v, ok := w.entries.Load(key); ok {
			_ = w.control(unix.EPOLL_CTL_MOD, v.(*entry).source.Fd(), key, unix.EPOLLIN) // it fails if Remove was faster
		}
	}
	w.held = w.held[:0]
}
