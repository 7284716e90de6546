package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// A liveCapture is a running capture.
type liveCapture struct {
	*captureJob
	names  *docker.Names
	src    show.Blocks
	s      *client.Stream
	cancel context.CancelFunc
}

// begin asks the daemon for the capture. The shot outlives ctx, whose end ends it in order.
func (j *captureJob) begin(ctx context.Context) (*liveCapture, error) {
	n, err := docker.LoadNames(ctx, j.c.Client)
	if err != nil {
		return nil, err
	}
	want := j.want
	if _, want.Filter, err = docker.CompileFilter(j.o.filter, n.Host); err != nil {
		return nil, err
	}
	var t *docker.Targets
	if want.Name = j.words; j.o.attach != "" {
		if t, err = j.armed(ctx, n, &want); err != nil {
			return nil, err
		}
	} else {
		of := docker.OnlyRunning
		if j.o.wait {
			of = docker.Awaited
		}
		if t, err = docker.FindTargets(ctx, j.c.Client, n, j.targets, of); err != nil {
			return nil, err
		}
		t.PrintNotes(j.news)
		want.Targets = t.Request()
	}
	limit := bounded{most: want.Frames, mostBytes: j.o.bytes}
	if want.Targets.New { // what comes besides is discarded here, by its Detail
		want.Detail, want.Frames = true, 0
		if j.o.bytes > 0 {
			want.Bytes = -1
		}
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // while the daemon does not answer
	s, err := j.c.OpenStream(own, api.CapturesPath, want)
	if err != nil {
		cancel()
		return nil, err
	}
	if !stop() {
		s.Close()
		return nil, errors.New("interrupted")
	}
	h := &liveCapture{j, n, docker.Follow(own, s, n, t, j.o.filter), s, cancel}
	if want.Targets.New && (limit.most > 0 || limit.mostBytes > 0) {
		limit.Blocks, limit.stop = h.src, func() { _ = s.Stop(own) } // if it fails the stream has ended
		h.src = &limit
	}
	return h, nil
}

// bounded ends a capture after so many frames, or bytes, of those that are let through.
type bounded struct {
	show.Blocks
	most      uint64 // 0: no bound
	mostBytes int64  // 0: no bound
	stop      func()
	frames    uint64
	bytes     int64  // of the packets in a stream, about
	last      uint64 // ID
	full      bool
}

func (b *bounded) Next() (pcapng.Block, error) {
	for {
		x, err := b.Blocks.Next()
		p, ok := x.(*pcapng.Packet)
		if !ok || err != nil {
			return x, err
		}
		if b.full && (p.ID == 0 || p.ID != b.last || b.mostBytes > 0) {
			continue
		}
		if b.bytes += int64(len(p.Data)+len(p.Comment)) + api.PacketOverhead; b.mostBytes > 0 && b.bytes > b.mostBytes {
			b.full = true
			b.stop()
			continue
		}
		if p.ID == 0 || p.ID != b.last {
			if b.frames++; b.frames == b.most {
				b.full = true
				b.stop()
			}
			b.last = p.ID
		}
		return x, nil
	}
}

// pump runs the shot until its end, or that of ctx.
func (h *liveCapture) pump(ctx context.Context, to show.Sink) (src, dst error) {
	defer context.AfterFunc(ctx, func() {
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), show.StopWait)
		defer cancel()
		if h.s.Stop(again) != nil {
			h.s.Close()
		}
	})()
	return show.Pump(h.src, to, func() { h.s.Close() })
}

// books are the daemon's, or nil if it tells none.
func (h *liveCapture) books(ctx context.Context) *api.CaptureStats {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), show.StopWait)
	defer cancel()
	b, err := h.s.Books(ctx)
	if err != nil {
		return nil
	}
	return &b
}

func (h *liveCapture) end() {
	h.s.Close()
	h.cancel()
}

// live captures until the daemon, the reader or the user ends it.
func (j *captureJob) live(ctx context.Context) error {
	h, err := j.begin(ctx)
	if err != nil {
		return err
	}
	defer h.end()
	to, where, err := j.open(h.names, file.Options{LinkType: pcapng.Ethernet, SnapLen: j.o.snap})
	if err != nil {
		return err
	}
	if w, ok := to.(*show.Writer); ok {
		w.Filter = j.o.filter
	}
	defer show.IgnoreBrokenPipes()()
	m := show.NewMeter(to, j.news, where != nil && human.IsTerminal(j.news))
	if where != nil {
		fmt.Fprintln(j.news, j.startText(j.o.write))
	}
	src, dst := h.pump(ctx, m)
	if err := m.Close(); dst == nil {
		dst = err
	}
	m.Clear()
	return j.Close(ctx, m, where, h.books(ctx), src, dst)
}

// startText says what begins.
func (j *captureJob) startText(where string) string {
	text := "capturing all of this host"
	if j.o.attach != "" {
		text = "capturing " + j.o.attach + " from its start"
	} else if len(j.targets) > 0 {
		text = "capturing " + strings.Join(j.targets, ", ")
	}
	if j.o.drops {
		text += ", dropped frames only"
	}
	if j.o.filter != "" {
		text += ", filter: " + j.o.filter
	}
	text += ", into " + where
	most := "1 GiB"
	if j.o.bytes > 0 {
		most = human.Bytes(uint64(j.o.bytes))
	}
	switch {
	case j.o.limited() && j.o.during == 0:
		text += ", at most " + most + " and 1h"
	case j.o.limited():
		text += ", at most " + most + " and " + human.Span(j.o.during)
	case j.o.bytes > 0 && j.o.during > 0:
		text += ", at most " + most + " and for " + human.Span(j.o.during)
	case j.o.bytes > 0:
		text += ", at most " + most
	case j.o.during > 0:
		text += ", for " + human.Span(j.o.during)
	}
	return text + " (Ctrl-C ends it)"
}

// Close tells how a live capture went, and gives the command's outcome.
func (j *captureJob) Close(ctx context.Context, m *show.Meter, where *destination, b *api.CaptureStats, src, dst error) error {
	if show.IsGone(dst) { // the reader has what it wanted
		if lost := m.Total(); lost > 0 && j.o.strict {
			return exit.Errorf(exit.Lost, "%s lost", human.Count(lost, "frame"))
		}
		return nil
	}
	m.Loss()
	if dst != nil {
		return exit.Errorf(exit.No, "%w", dst)
	}
	lost, frames := m.Total(), m.Frames
	if b != nil {
		lost = max(lost, b.Dropped)
	}
	switch {
	case where != nil:
		filtered := ""
		if b != nil {
			filtered = human.Thousands(b.Filtered) + " filtered, "
		}
		fmt.Fprintf(j.news, "captured %s\n", where.into(m.Count(), fmt.Sprintf("%s (%s%s lost)", human.Count(frames, "frame"), filtered, human.Thousands(lost))))
	default:
		j.show.Sum.Print(j.news, lost)
	}
	switch {
	case errors.Is(src, io.ErrUnexpectedEOF):
		return exit.Errorf(exit.No, "the daemon went away in the middle%s", complete(where, m.Count()))
	case src != io.EOF:
		return exit.Errorf(exit.No, "the daemon went away in the middle%s: %w", complete(where, m.Count()), src)
	case b == nil || b.State == "shutdown":
		if ctx.Err() == nil {
			return exit.Errorf(exit.No, "the daemon was stopped%s", complete(where, m.Count()))
		}
	case b.State == "failed":
		return exit.Errorf(exit.No, "the capture failed in the daemon%s: see its log (%s)", complete(where, m.Count()), j.c.Log())
	case b.State == "limit":
		if text := j.limitText(b); text != "" {
			fmt.Fprintln(j.news, text)
		}
	}
	if lost > 0 && j.o.strict {
		return exit.Errorf(exit.Lost, "%s lost", human.Count(lost, "frame"))
	}
	return nil
}

// complete says what is there of a capture that ended before its time.
func complete(where *destination, wrote file.Count) string {
	if where == nil {
		return ""
	}
	kept, lacks := where.lacks(wrote)
	switch {
	case wrote.Packets == 0:
		return "; no frame had come until then"
	case lacks:
		return fmt.Sprintf("; of what came until then the latest %s are in %s", human.Count(kept.Frames, "frame"), where.name())
	}
	return "; what came until then is in " + where.name()
}

// limitText names the limit that nobody asked for, if it was one.
func (j *captureJob) limitText(b *api.CaptureStats) string {
	switch {
	case !j.o.limited() || j.o.frames > 0 && b.Delivered >= j.o.frames:
	case j.o.during == 0 && b.Seconds >= api.DefaultCaptureSeconds-1:
		return "ended by the limit of 1h: --for sets another, --no-limit lifts it"
	case j.o.bytes == 0 && b.Bytes > api.DefaultCaptureBytes-(1<<20):
		return "ended by the limit of 1 GiB: --no-limit lifts it, -C with -W keeps the latest files"
	}
	return ""
}
