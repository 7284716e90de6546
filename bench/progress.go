package bench

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// progress shows how far the bench is. On a terminal the last line changes; elsewhere there is a line for each step that is
// done.
type progress struct {
	w                io.Writer
	terminal         bool
	began            time.Time
	cost             float64       // of the whole plan, in estimated seconds
	done             float64       // of these
	at               time.Duration // when done was last set, since began
	transfers, total int           // transfers that are done, and all
}

func newProgress(w io.Writer, transfers int, cost float64) *progress {
	p := &progress{w: w, began: time.Now(), total: transfers, cost: cost}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// status shows what begins, on a terminal only.
func (p *progress) status(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(p.w, "\r\033[K%s  %s", p.clock(), fmt.Sprintf(format, args...))
	}
}

// line writes a line about what is done.
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

// advance adds transfers that are done, and the seconds that they were estimated to take.
func (p *progress) advance(transfers int, seconds float64) {
	p.advanceTo(p.transfers+transfers, p.done+seconds)
}

// advanceTo sets how many transfers, and how many estimated seconds, are done or left out.
func (p *progress) advanceTo(transfers int, seconds float64) {
	p.transfers, p.done, p.at = transfers, seconds, time.Since(p.began)
}

// Write writes lines about what is done.
func (p *progress) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		p.line("%s", strings.TrimSpace(line))
	}
	return len(text), nil
}

// clock is how many transfers are done, how long it took and when it will end.
func (p *progress) clock() string {
	elapsed := time.Since(p.began)
	text := fmt.Sprintf("%5s, ends %s", results.Minutes(elapsed), p.began.Add(elapsed+p.left(elapsed)).Format("15:04:05"))
	if p.total == 0 {
		return "[" + text + "]"
	}
	return fmt.Sprintf("[%*d/%d %s]", len(fmt.Sprint(p.total)), p.transfers, p.total, text)
}

// left is what the rest of the plan will take at the speed so far.
func (p *progress) left(elapsed time.Duration) time.Duration {
	speed := 1.0
	if p.done > 10 { // before that the speed is unknown
		speed = p.at.Seconds() / p.done
	}
	return max(0, time.Duration((p.cost-p.done)*speed*float64(time.Second))-(elapsed-p.at))
}
