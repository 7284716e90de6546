package bench

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// progress tells a person how far the bench is. On a terminal the last line changes; elsewhere there is one line for
// what is done.
type progress struct {
	w        io.Writer
	terminal bool
	began    time.Time
	cost     float64       // of the whole plan, in seconds as it reckons them
	done     float64       // of these
	at       time.Duration // when so much was done
	runs, of int           // measured runs
}

func newProgress(w io.Writer, runs int, cost float64) *progress {
	p := &progress{w: w, began: time.Now(), of: runs, cost: cost}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// status tells what begins.
func (p *progress) status(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(p.w, "\r\033[K%s  %s", p.clock(), fmt.Sprintf(format, args...))
	}
}

// line tells what is done.
func (p *progress) line(format string, args ...any) {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
	fmt.Fprintf(p.w, "%s  %s\n", p.clock(), fmt.Sprintf(format, args...))
}

// end clears the line that changes.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
}

// advance notes what is done of the plan: measured runs, and what they were reckoned to take, in seconds.
func (p *progress) advance(runs int, seconds float64) { p.advanceTo(p.runs+runs, p.done+seconds) }

// advanceTo notes that so much of the plan is behind, done or left out.
func (p *progress) advanceTo(runs int, seconds float64) {
	p.runs, p.done, p.at = runs, seconds, time.Since(p.began)
}

// Write takes lines of what is done.
func (p *progress) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		p.line("%s", strings.TrimSpace(line))
	}
	return len(text), nil
}

// clock says how far it is, how long it took and when it will end.
func (p *progress) clock() string {
	gone := time.Since(p.began)
	said := fmt.Sprintf("%5s, ends %s", results.Minutes(gone), p.began.Add(gone+p.left(gone)).Format("15:04:05"))
	if p.of == 0 {
		return "[" + said + "]"
	}
	return fmt.Sprintf("[%*d/%d %s]", len(fmt.Sprint(p.of)), p.runs, p.of, said)
}

// left is what the rest of the plan will take, at the pace so far.
func (p *progress) left(gone time.Duration) time.Duration {
	pace := 1.0
	if p.done > 10 { // before that the pace is not known
		pace = p.at.Seconds() / p.done
	}
	return max(0, time.Duration((p.cost-p.done)*pace*float64(time.Second))-(gone-p.at))
}
