package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
)

// recorderState answers with the recorder's state.
func (c *Captures) recorderState(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, c.recorderReply())
}

func (c *Captures) recorderReply() api.Recorder {
	s := c.Recorder.State()
	r := api.Recorder{On: s.Bytes > 0, Bytes: s.Bytes, Frames: s.Frames, Kept: s.Kept, DropsKept: s.Drops}
	if r.On {
		since := time.Unix(0, s.Since).UTC()
		r.Since = &since
	}
	return r
}

// recorderSet resizes the recorder, or switches it on or off.
func (c *Captures) recorderSet(w http.ResponseWriter, r *http.Request) {
	var want api.RecorderChange
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&want)
	if err == nil {
		err = c.Recorder.Resize(want.Bytes)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	who := credentialsOf(r)
	c.log.Info("recorder set", "uid", who.UID, "pid", who.PID, "bytes", want.Bytes)
	c.recorderState(w, r)
}

// recorderPorts answers with the containers' ports that the recorder may have frames of.
func (c *Captures) recorderPorts(w http.ResponseWriter, _ *http.Request) {
	all := []api.RecordedPort{}
	for _, p := range c.Hub.Ports(capture.Targets{}) {
		if !p.Remote && !p.HostPort {
			all = append(all, api.RecordedPort{Network: p.Network, Endpoint: p.Name, Sandbox: p.Sandbox, Addresses: p.Addrs, AttachedAt: p.AttachedAt, DetachedAt: p.DetachedAt})
		}
	}
	reply(w, http.StatusOK, all)
}

// dumpWait is how long a reader may take for all of a dump: while it is read, a copy of the recorder is kept.
const dumpWait = 10 * time.Minute

// dump answers with a stream of what the recorder holds.
func (c *Captures) dump(w http.ResponseWriter, r *http.Request) {
	began, who := time.Now(), credentialsOf(r)
	ask, err := parseRequest(w, r)
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{})
	var out *output
	var enc *capture.Encoder
	wants, frames := c.Hub.Matcher(ask.targets), uint64(0)
	err = c.Recorder.Dump(time.Duration(ask.Last*float64(time.Second)), func(since int64) error {
		w.Header().Set(api.SinceHeader, strconv.FormatInt(since, 10))
		w.Header().Set(api.UntilHeader, strconv.FormatInt(began.UnixNano(), 10))
		out = c.newOutput(w, conn, &ask.CaptureRequest)
		out.deadline = began.Add(dumpWait)
		out.setFlushTimeout(readWait)
		enc = c.Hub.NewEncoder(out.Writer, ask.encode, nil)
		stopped := capture.Targets{Some: true, Sandboxes: ask.targets.Sandboxes}
		if err := enc.AddPorts(c.Hub.Ports(stopped)); err != nil { // so that they have names from the first frame on
			return err
		}
		return out.flush()
	}, func(rec *capture.Record) error {
		if !wants(rec) || ask.Drops && !rec.Verdict.Drop() || ask.match != nil && !ask.match(rec.Data, rec.Len) {
			return nil
		}
		if ask.Frames > 0 && frames >= ask.Frames || ask.Bytes > 0 && out.Size()+int64(len(rec.Data))+api.PacketOverhead > ask.Bytes {
			return errLimitReached
		}
		frames++
		if err := enc.Write(rec); err != nil || out.waiting() < 1<<18 {
			return err
		}
		select {
		case <-c.ending:
			return errDaemonEnds
		default:
			return out.flush()
		}
	})
	if out == nil {
		reply(w, http.StatusConflict, api.Error{Error: err.Error()})
		return
	}
	if err == nil || errors.Is(err, errLimitReached) {
		err = out.flush()
	}
	log := c.log.With("uid", who.UID, "pid", who.PID, "command", ask.Name, "targets", targetsText(ask.Targets),
		"filter", ask.Filter.Expr, "took", time.Since(began).Round(time.Millisecond), "frames", frames, "bytes", out.Size())
	switch {
	case err == nil:
		log.Info("recorder dumped")
		return
	case errors.Is(err, errReaderGone), errors.Is(err, errDaemonEnds):
		log.Info("recorder dump broke off", "err", err)
	default:
		log.Error("recorder dump failed", "err", err)
	}
	panic(http.ErrAbortHandler) // the stream has no end: its reader is told
}

var (
	errLimitReached = errors.New("as much as was asked for")
	errDaemonEnds   = errors.New("the daemon ends")
)
