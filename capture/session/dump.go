package session

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// Dump writes or prints the frames of a recorder's stream.
func (j *Job) Dump(ctx context.Context, s *client.Stream, n *docker.Names, covers Coverage) error {
	to, where, err := j.openOutput(n, file.Options{LinkType: pcapng.Ethernet, SnapLen: capture.RecordedBytes})
	if err != nil {
		return err
	}
	defer show.IgnoreBrokenPipes()()
	m := show.NewProgress(to, nil, false)
	src, dst := show.CopyBlocks(s, m, func() { s.Close() })
	dst = cmp.Or(dst, m.Close())
	switch {
	case show.IsReaderGone(dst):
		return nil
	case dst != nil:
		return exit.Errorf(exit.Failure, "%w", dst)
	case src != io.EOF && ctx.Err() != nil:
		return exit.Errorf(exit.Failure, "interrupted%s", partialText(where, m.Count()))
	case src != io.EOF:
		return exit.Errorf(exit.Failure, "the frames broke off%s: %w", partialText(where, m.Count()), exit.WithoutURL(src))
	}
	text := human.Count(m.Frames, "frame")
	if where != nil {
		text = where.describe(m.Count(), text)
	}
	if _, err = fmt.Fprintf(j.Messages, "%s: %s\n", covers, text); err != nil {
		return err
	}
	return n.CheckStopped()
}

// A Coverage is the time that a dump covers, up to now.
type Coverage struct {
	Asked   time.Duration // 0: for all
	Covered time.Duration
	Why     string // why it covers no more; "": it covers what was asked for
	Ended   bool   // the stream ended early, and the latest frames are missing
}

func (v Coverage) String() string {
	switch {
	case v.Ended:
		return fmt.Sprintf("only the oldest %s (%s)", human.Duration(v.Covered), v.Why)
	case v.Why == "":
		return "the last " + human.Duration(v.Asked)
	case v.Asked == 0:
		return fmt.Sprintf("the last %s (%s)", human.Duration(v.Covered), v.Why)
	}
	return fmt.Sprintf("asked for the last %s, have %s (%s)", human.Duration(v.Asked), human.Duration(v.Covered), v.Why)
}

// OpenDump requests the frames that the recorder has of the latest time, asked; 0: all. The error is ErrRecorderOff if it is off.
func (l *View) OpenDump(ctx context.Context, c *client.Client, asked time.Duration) (s *client.Stream, v Coverage, err error) {
	want := l.Request
	r, err := c.Recorder(ctx)
	if err != nil {
		return nil, v, err
	}
	if !r.On {
		return nil, v, ErrRecorderOff
	}
	want.Seconds, want.Last, want.Targets.New = 0, asked.Seconds(), false
	if s, err = c.OpenStream(ctx, api.RecorderDumpPath, want); err != nil {
		return nil, v, err
	}
	if s.Body = newSpool(s.Body); l.Names != nil {
		s.OnInterface = l.Names.AddPort
	}
	s.Reader = pcapng.NewReader(s.Body)
	const same = 100 * time.Millisecond // the daemon reads its clock more than once
	v.Asked, v.Covered = asked, time.Duration(max(0, s.Until-s.Since))
	switch {
	case asked > 0 && v.Covered >= asked-same:
	case r.Since != nil && s.Since > r.Since.UnixNano():
		v.Why = "older frames were overwritten"
	default:
		v.Why = "since the recorder was switched on"
	}
	return s, v, nil
}

// ErrRecorderOff is what OpenDump returns while the recorder is off.
var ErrRecorderOff = exit.Errorf(exit.Failure, "the recorder is off, it has kept nothing: tapestry recorder on")
