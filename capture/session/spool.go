package session

import (
	"bytes"
	"io"
	"sync"
)

// A spool reads its source as fast as it can, and keeps the bytes until they are read: so the daemon need not keep a dump in its
// memory while somebody looks at its first page.
type spool struct {
	io.Closer // ends the reading

	mu    sync.Mutex
	more  sync.Cond // on mu: parts or err has changed
	parts [][]byte  // guarded by mu
	err   error     // guarded by mu; the source's, for the reader after the last part
}

func newSpool(from io.ReadCloser) *spool {
	s := &spool{Closer: from}
	s.more.L = &s.mu
	go s.fill(from)
	return s
}

func (s *spool) fill(from io.Reader) {
	b := make([]byte, 256<<10)
	for {
		n, err := from.Read(b)
		s.mu.Lock()
		if n > 0 {
			s.parts = append(s.parts, bytes.Clone(b[:n]))
		}
		s.err = err
		s.more.Signal()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *spool) Read(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.parts) == 0 && s.err == nil {
		s.more.Wait()
	}
	if len(s.parts) == 0 {
		return 0, s.err
	}
	n = copy(b, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; len(s.parts[0]) == 0 {
		s.parts[0], s.parts = nil, s.parts[1:]
	}
	return n, nil
}
