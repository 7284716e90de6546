package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// A Stream is what the daemon sends of a capture, or of the recorder.
type Stream struct {
	Client *Client
	ID     string // of the capture
	Body   io.ReadCloser
	Reader *pcapng.Reader

	OnInterface func(*pcapng.Interface) // called with each port that the stream announces; may be nil

	Since, Until int64 // of a dump: the time in which no frame is missing, in ns since 1970; 0: not told
}

// OpenStream asks for a capture (path api.CapturesPath) or a dump (api.RecorderDumpPath). The answer comes as soon as the
// daemon captures.
func (c *Client) OpenStream(ctx context.Context, path string, want api.CaptureRequest) (*Stream, error) {
	sent, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	resp, err := c.open(ctx, http.MethodPost, path, sent)
	if err != nil {
		return nil, err
	}
	s := &Stream{Client: c, ID: resp.Header.Get(api.CaptureIDHeader), Body: resp.Body, Reader: pcapng.NewReader(resp.Body)}
	s.Since, _ = strconv.ParseInt(resp.Header.Get(api.SinceHeader), 10, 64)
	s.Until, _ = strconv.ParseInt(resp.Header.Get(api.UntilHeader), 10, 64)
	return s, nil
}

// Events lends fn the events since a time, and with follow those that come, until ctx ends or fn returns an error.
func (c *Client) Events(ctx context.Context, since time.Time, follow bool, fn func(*api.Event) error) error {
	path := api.EventsPath + "?from=" + strconv.FormatInt(since.UnixNano(), 10)
	if follow {
		path += "&follow=yes"
	}
	resp, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var e api.Event
		switch err := lines.Decode(&e); {
		case ctx.Err() != nil || err == io.EOF && !follow:
			return nil
		case err != nil:
			return exit.Errorf(exit.Failure, "the daemon went away: %w", exit.WithoutURL(err))
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
}

// open asks for an answer that is a stream.
func (c *Client) open(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://tapestry"+path, bytes.NewReader(body))
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
		return nil, errorOf(resp.StatusCode, text)
	}
	return resp, nil
}

// Next gives the next block, lent until the next call; io.EOF behind the last of a stream that has ended in order.
func (s *Stream) Next() (pcapng.Block, error) {
	b, err := s.Reader.Next()
	if i, ok := b.(*pcapng.Interface); ok && s.OnInterface != nil {
		s.OnInterface(i)
	}
	return b, err
}

// Change replaces the targets or the filter of the running capture.
func (s *Stream) Change(ctx context.Context, what api.CaptureChange) error {
	return s.Client.Call(ctx, http.MethodPatch, api.CapturePath(s.ID), what, nil)
}

// Stop ends the capture. Frames captured until now are still delivered by Next, then io.EOF.
func (s *Stream) Stop(ctx context.Context) error {
	return s.Client.Call(ctx, http.MethodDelete, api.CapturePath(s.ID), nil, nil)
}

// Stats reads the counts.
func (s *Stream) Stats(ctx context.Context) (b api.CaptureStats, err error) {
	return b, s.Client.Call(ctx, http.MethodGet, api.CapturePath(s.ID), nil, &b)
}

// Close hangs up; a capture that still runs ends.
func (s *Stream) Close() error { return s.Body.Close() }
