package session

import (
	"cmp"
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

// A liveCapture is a capture that runs in the daemon. end must be called.
type liveCapture struct {
	*Job
	names  *docker.Names
	blocks show.BlockReader
	stream *client.Stream
	cancel context.CancelFunc
}

// start begins the capture in the daemon. It does not end with ctx: then it is stopped, and the frames up to there are still read.
func (j *Job) start(ctx context.Context) (*liveCapture, error) {
	n, err := docker.LoadNames(ctx, j.Client)
	if err != nil {
		return nil, err
	}
	want := j.Request
	if _, want.Filter, err = docker.CompileFilter(j.Filter, n.Addrs); err != nil {
		return nil, err
	}
	var t *docker.Targets
	if want.Name = j.CommandLine; j.Attach != "" {
		if t, err = j.findArmed(ctx, n, &want); err != nil {
			return nil, err
		}
	} else {
		of := docker.OnlyRunning
		if j.Wait {
			of = docker.Awaited
		}
		if t, err = docker.FindTargets(ctx, j.Client, n, j.Targets, of); err != nil {
			return nil, err
		}
		t.PrintNotes(j.Messages)
		want.Targets = t.Request()
	}
	limit := limitedSource{maxFrames: want.Frames, maxBytes: j.Bytes}
	if want.Targets.New { // the daemon sends more than is wanted; it is discarded here, by its Detail
		want.Detail, want.Frames = true, 0
		if j.Bytes > 0 {
			want.Bytes = -1
		}
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // while the daemon does not answer
	s, err := j.Client.OpenStream(own, api.CapturesPath, want)
	if err != nil {
		cancel()
		return nil, err
	}
	if !stop() {
		s.Close()
		return nil, errors.New("interrupted")
	}
	h := &liveCapture{j, n, docker.Follow(own, s, n, t, j.Filter), s, cancel}
	if want.Targets.New && (limit.maxFrames > 0 || limit.maxBytes > 0) {
		limit.BlockReader, limit.stop = h.blocks, func() { _ = s.Stop(own) } // if it fails the stream has ended
		h.blocks = &limit
	}
	return h, nil
}

// A limitedSource stops a capture after a number of frames or bytes. The daemon cannot count them where frames are discarded here.
type limitedSource struct {
	show.BlockReader
	maxFrames uint64 // 0: no bound
	maxBytes  int64  // 0: no bound
	stop      func()
	frames    uint64
	bytes     int64  // that the packets take in a stream, approximately
	last      uint64 // ID
	full      bool
}

func (b *limitedSource) Next() (pcapng.Block, error) {
	for {
		x, err := b.BlockReader.Next()
		p, ok := x.(*pcapng.Packet)
		if !ok || err != nil {
			return x, err
		}
		if b.full && (p.ID == 0 || p.ID != b.last || b.maxBytes > 0) {
			continue
		}
		if b.bytes += int64(len(p.Data)+len(p.Comment)) + api.PacketOverhead; b.maxBytes > 0 && b.bytes > b.maxBytes {
			b.full = true
			b.stop()
			continue
		}
		if p.ID == 0 || p.ID != b.last {
			if b.frames++; b.frames == b.maxFrames {
				b.full = true
				b.stop()
			}
			b.last = p.ID
		}
		return x, nil
	}
}

// copyTo copies the capture's blocks until it ends. When ctx ends it stops the capture, and copies what is left.
func (h *liveCapture) copyTo(ctx context.Context, to show.BlockWriter) (src, dst error) {
	defer context.AfterFunc(ctx, func() {
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), show.StopTimeout)
		defer cancel()
		if h.stream.Stop(again) != nil {
			h.stream.Close()
		}
	})()
	return show.CopyBlocks(h.blocks, to, func() { h.stream.Close() })
}

// stats returns the capture's statistics, nil if the daemon does not answer.
func (h *liveCapture) stats(ctx context.Context) *api.CaptureStats {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), show.StopTimeout)
	defer cancel()
	b, err := h.stream.Stats(ctx)
	if err != nil {
		return nil
	}
	return &b
}

func (h *liveCapture) end() {
	h.stream.Close()
	h.cancel()
}

// Live runs a capture until the daemon, the reader or the user ends it.
func (j *Job) Live(ctx context.Context) error {
	h, err := j.start(ctx)
	if err != nil {
		return err
	}
	defer h.end()
	to, where, err := j.openOutput(h.names, file.Options{LinkType: pcapng.Ethernet, SnapLen: j.Snap})
	if err != nil {
		return err
	}
	defer show.IgnoreBrokenPipes()()
	m := show.NewProgress(to, j.Messages, where != nil && human.IsTerminal(j.Messages))
	if where != nil {
		fmt.Fprintln(j.Messages, j.startText(j.Write))
	}
	src, dst := h.copyTo(ctx, m)
	dst = cmp.Or(dst, m.Close())
	m.ClearLine()
	return j.report(ctx, m, where, h.stats(ctx), src, dst)
}

// startText is the line that says what is captured, into what, and with which limits.
func (j *Job) startText(where string) string {
	text := "capturing all of this host"
	if j.Attach != "" {
		text = "capturing " + j.Attach + " from its start"
	} else if len(j.Targets) > 0 {
		text = "capturing " + strings.Join(j.Targets, ", ")
	}
	if j.Drops {
		text += ", dropped frames only"
	}
	if j.Filter != "" {
		text += ", filter: " + j.Filter
	}
	text += ", into " + where
	most := "1 GiB"
	if j.Bytes > 0 {
		most = human.Bytes(uint64(j.Bytes))
	}
	switch {
	case j.limited() && j.During == 0:
		text += ", at most " + most + " and 1h"
	case j.limited():
		text += ", at most " + most + " and " + human.ShortDuration(j.During)
	case j.Bytes > 0 && j.During > 0:
		text += ", at most " + most + " and for " + human.ShortDuration(j.During)
	case j.Bytes > 0:
		text += ", at most " + most
	case j.During > 0:
		text += ", for " + human.ShortDuration(j.During)
	}
	return text + " (Ctrl-C ends it)"
}

// report prints the closing line of a live capture, and returns the command's error. b are the daemon's statistics, nil if it
// gave none; src and dst are the errors of show.CopyBlocks.
func (j *Job) report(ctx context.Context, m *show.Progress, where *destination, b *api.CaptureStats, src, dst error) error {
	if show.IsReaderGone(dst) { // the reader has what it wanted
		if lost := m.Lost(); lost > 0 && j.Strict {
			return exit.Errorf(exit.Lost, "%s lost", human.Count(lost, "frame"))
		}
		return nil
	}
	m.ReportLoss()
	if dst != nil {
		return exit.Errorf(exit.Failure, "%w", dst)
	}
	lost, frames := m.Lost(), m.Frames
	if b != nil {
		lost = max(lost, b.Dropped)
	}
	switch {
	case where != nil:
		filtered := ""
		if b != nil {
			filtered = human.Thousands(b.Filtered) + " filtered, "
		}
		fmt.Fprintf(j.Messages, "captured %s\n", where.describe(m.Count(), fmt.Sprintf("%s (%s%s lost)", human.Count(frames, "frame"), filtered, human.Thousands(lost))))
	default:
		j.printer.Summary.Print(j.Messages, lost)
	}
	switch {
	case errors.Is(src, io.ErrUnexpectedEOF):
		return exit.Errorf(exit.Failure, "the daemon went away in the middle%s", partialText(where, m.Count()))
	case src != io.EOF:
		return exit.Errorf(exit.Failure, "the daemon went away in the middle%s: %w", partialText(where, m.Count()), src)
	case b == nil || b.State == "shutdown":
		if ctx.Err() == nil {
			return exit.Errorf(exit.Failure, "the daemon was stopped%s", partialText(where, m.Count()))
		}
	case b.State == "failed":
		return exit.Errorf(exit.Failure, "the capture failed in the daemon%s: see its log (%s)", partialText(where, m.Count()), j.Client.LogCommand())
	case b.State == "limit":
		if text := j.limitText(b); text != "" {
			fmt.Fprintln(j.Messages, text)
		}
	}
	if lost > 0 && j.Strict {
		return exit.Errorf(exit.Lost, "%s lost", human.Count(lost, "frame"))
	}
	return nil
}

// partialText says how much there is of a capture that has ended early.
func partialText(where *destination, wrote file.Count) string {
	if where == nil {
		return ""
	}
	kept, lacks := where.keptOf(wrote)
	switch {
	case wrote.Packets == 0:
		return "; no frame had come until then"
	case lacks:
		return fmt.Sprintf("; of what came until then the latest %s are in %s", human.Count(kept.Frames, "frame"), where.name())
	}
	return "; what came until then is in " + where.name()
}

// limitText says which default limit has ended the capture, "" if it was one that the user asked for.
func (j *Job) limitText(b *api.CaptureStats) string {
	switch {
	case !j.limited() || j.Frames > 0 && b.Delivered >= j.Frames:
	case j.During == 0 && b.Seconds >= api.DefaultCaptureSeconds-1:
		return "ended by the limit of 1h: --for sets another, --no-limit lifts it"
	case j.Bytes == 0 && b.Bytes > api.DefaultCaptureBytes-(1<<20):
		return "ended by the limit of 1 GiB: --no-limit lifts it, -C with -W keeps the latest files"
	}
	return ""
}
