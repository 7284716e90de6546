package daemon

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogPipe: a log on a pipe that nobody reads loses lines, counts them, and never blocks the caller.
func TestLogPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	p := NewLogPipe(w, "info", "json")
	if p == nil {
		t.Fatal("a pipe is not recognised")
	}
	log := newLogger(p, "info", "json")
	const lines = 3000 // of more than 100 bytes: several times what a pipe holds
	for i := range lines {
		log.Info(strings.Repeat("x", 100), "n", i)
	}

	seen, lost, last, done := 0, 0, -1, make(chan error, 1)
	go func() {
		s := bufio.NewScanner(r)
		for s.Scan() {
			var line struct {
				Msg      string
				N, Lines int
			}
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				done <- err
				return
			}
			if line.Lines > 0 {
				lost += line.Lines
				continue
			}
			if seen++; line.N <= last {
				t.Errorf("line %d comes after %d", line.N, last)
			}
			last = line.N
			if line.Msg == "end" {
				done <- nil
				return
			}
		}
		done <- s.Err()
	}()
	for i := lines; ; i++ { // until one gets through
		log.Info("end", "n", i)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if lost == 0 || seen+lost > i+1 || seen+lost < lines {
				t.Errorf("%d lines came and %d are said to be lost, of %d", seen, lost, i+1)
			}
			return
		default:
		}
	}
}

// TestLogPipeOthers: what is not a pipe is written to directly.
func TestLogPipeOthers(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if NewLogPipe(f, "info", "text") != nil || NewLogPipe(&strings.Builder{}, "info", "text") != nil {
		t.Error("it is treated as a pipe")
	}
}
