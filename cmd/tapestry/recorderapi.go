package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/capture"
)

// recorderState answers GET /v1/recorder.
func (c *captures) recorderState(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, c.recorderReply())
}

func (c *captures) recorderReply() recorderReply {
	s := c.recorder.State()
	r := recorderReply{On: s.Bytes > 0, Bytes: s.Bytes, Frames: s.Frames, Kept: s.Kept, DropsKept: s.Drops}
	if r.On {
		since := time.Unix(0, s.Since).UTC()
		r.Since = &since
	}
	return r
}

// recorderSet answers PUT /v1/recorder.
func (c *captures) recorderSet(w http.ResponseWriter, r *http.Request) {
	var want recorderChange
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&want)
	if err == nil {
		err = c.recorder.Resize(want.Bytes)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	who := credentialsOf(r)
	c.log.Info("recorder set", "uid", who.uid, "pid", who.pid, "bytes", want.Bytes)
	c.recorderState(w, r)
}

// dump answers with a stream of what the recorder holds.
func (c *captures) dump(w http.ResponseWriter, r *http.Request) {
	began, who := time.Now(), credentialsOf(r)
	ask, err := understand(w, r)
	if err != nil {
		reply(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{})
	var out *output
	var stream *capture.Stream
	wants, frames := c.hub.Wants(ask.targets), uint64(0)
	err = c.recorder.Dump(time.Duration(ask.Last*float64(time.Second)), func(since int64) {
		w.Header().Set("X-Tapestry-Since", strconv.FormatInt(since, 10))
		w.Header().Set("X-Tapestry-Until", strconv.FormatInt(began.UnixNano(), 10))
		out = newOutput(w, conn, &ask.captureRequest)
		stream = c.hub.NewStream(out.Writer, ask.show, nil)
		stopped := capture.Targets{Some: true, Sandboxes: ask.targets.Sandboxes}
		if err = stream.Tell(c.hub.Ports(stopped)); err == nil { // so that they have names from the first frame on
			err = c.flush(out, conn)
		}
	}, func(rec *capture.Record) {
		if err != nil || !wants(rec) || ask.Drops && !rec.Verdict.Drop() ||
			ask.match != nil && !ask.match(rec.Data, rec.Len) ||
			ask.Frames > 0 && frames >= ask.Frames {
			return
		}
		frames++
		if err = stream.Write(rec); err == nil && out.waiting() > 1<<18 {
			err = c.flush(out, conn)
		}
	})
	if out == nil {
		reply(w, http.StatusConflict, errorReply{err.Error()})
		return
	}
	if err == nil {
		_ = c.flush(out, conn) // a reader that is gone needs no more
	}
	c.log.Info("recorder dumped", "uid", who.uid, "pid", who.pid, "command", ask.Name, "targets", ask.Targets.String(),
		"filter", ask.Filter.Expr, "took", time.Since(began).Round(time.Millisecond), "frames", frames, "bytes", out.Size())
}

// flush gives a reader ten seconds for each part: while it reads, a copy of the ring is kept.
func (c *captures) flush(out *output, conn *http.ResponseController) error {
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	return out.flush()
}
