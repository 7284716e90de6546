package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A stream is what the daemon sends of a capture, or of the recorder.
type stream struct {
	c      *client
	id     string // of the capture
	body   io.ReadCloser
	reader *pcapng.Reader

	names *names // of who reads a dump: they learn of its containers that have stopped

	since, until int64 // of a dump: the time in which no frame is missing, in ns since 1970; 0: not told
}

// openStream asks for a capture ("/v1/captures") or a dump ("/v1/recorder/dump"). The answer comes as soon as the
// daemon looks.
func (c *client) openStream(ctx context.Context, path string, want captureRequest) (*stream, error) {
	sent, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://tapestry"+path, bytes.NewReader(sent))
	if err != nil {
		return nil, err
	}
	h := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, ReadBufferSize: 256 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.dial(ctx)
		}}}
	resp, err := h.Do(r)
	if err != nil {
		return nil, c.noDaemon(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, c.noDaemon(err)
		}
		return nil, refused(resp.StatusCode, text)
	}
	s := &stream{c: c, id: resp.Header.Get("X-Capture-Id"), body: resp.Body, reader: pcapng.NewReader(resp.Body)}
	s.since, _ = strconv.ParseInt(resp.Header.Get("X-Tapestry-Since"), 10, 64)
	s.until, _ = strconv.ParseInt(resp.Header.Get("X-Tapestry-Until"), 10, 64)
	return s, nil
}

// Next gives the next block, lent until the next call; io.EOF behind the last of a stream that has ended in order.
func (s *stream) Next() (pcapng.Block, error) {
	b, err := s.reader.Next()
	if i, ok := b.(*pcapng.Interface); ok && s.names != nil {
		if p, ok := capture.ReadPort(i); ok {
			s.names.recall(&p)
		}
	}
	return b, err
}

// Change replaces what the running capture looks at.
func (s *stream) Change(ctx context.Context, what captureChange) error {
	return s.c.call(ctx, http.MethodPatch, "/v1/captures/"+url.PathEscape(s.id), what, nil)
}

// Stop ends the capture. What was seen until now still comes, and then the end.
func (s *stream) Stop(ctx context.Context) error {
	return s.c.call(ctx, http.MethodDelete, "/v1/captures/"+url.PathEscape(s.id), nil, nil)
}

// Books reads the counts.
func (s *stream) Books(ctx context.Context) (b captureBooks, err error) {
	return b, s.c.call(ctx, http.MethodGet, "/v1/captures/"+url.PathEscape(s.id), nil, &b)
}

// Close hangs up; a capture that still runs ends.
func (s *stream) Close() error { return s.body.Close() }
