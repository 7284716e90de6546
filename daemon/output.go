package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// An output is a stream on its way to a client.
type output struct {
	capture.Writer
	conn         *http.ResponseController
	flushed      int64        // bytes of the stream that were flushed
	flushTimeout atomic.Int64 // ns that each flush may take; 0: no limit
	deadline     time.Time    // when the last flush must have ended; zero: no limit
}

func (c *Captures) newOutput(w http.ResponseWriter, conn *http.ResponseController, ask *api.CaptureRequest) *output {
	o := &output{conn: conn}
	if ask.Format == "ndjson" {
		w.Header().Set("Content-Type", "application/x-ndjson")
		o.Writer = capture.NewNDJSON(w)
	} else {
		w.Header().Set("Content-Type", "application/x-pcapng")
		o.Writer = pcapng.NewWriter(w, pcapng.Section{Application: "tapestry " + c.version, Comment: ask.Name})
	}
	return o
}

// waiting is how many bytes were not flushed.
func (o *output) waiting() int64 { return o.Size() - o.flushed }

// setFlushTimeout lets each flush from now on, and one that hangs, take no longer than grace.
func (o *output) setFlushTimeout(grace time.Duration) {
	o.flushTimeout.Store(int64(grace))
	o.setDeadline()
}

func (o *output) setDeadline() {
	grace := time.Duration(o.flushTimeout.Load())
	if grace == 0 {
		return
	}
	end := time.Now().Add(grace)
	if !o.deadline.IsZero() && o.deadline.Before(end) {
		end = o.deadline
	}
	_ = o.conn.SetWriteDeadline(end)
}

func (o *output) flush() error {
	o.setDeadline()
	err := o.Writer.Flush()
	o.flushed = o.Size()
	if err = errors.Join(err, o.conn.Flush()); err != nil {
		return fmt.Errorf("%w: %w", errReaderGone, err)
	}
	return nil
}
