package capture

import (
	"cmp"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestRecorder(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	r := h.NewRecorder()
	if err := r.Dump(time.Hour, nil, nil); err == nil || r.Size() != 0 {
		t.Error("it is on from the beginning")
	}
	for _, size := range []int{-1, 1, 1 << 20, 3 << 20, 1 << 31, 1 << 62} {
		if err := r.Resize(size); err == nil {
			t.Errorf("it has %d bytes", size)
		}
	}
	testhost.Must(t, r.Resize(1<<21))
	defer r.Close()

	n.send(1, 1, 200) // a drop, that the others will wash out
	const frames = 30_000
	for i := range frames {
		n.send(1, 2, byte(i))
	}
	type look struct {
		drops, others int
		first, last   int64
	}
	dump := func(last time.Duration) (l look, since int64) {
		t.Helper()
		ids := map[uint64]bool{}
		count := 0
		err := r.Dump(last, func(at int64) error { since = at; return nil }, func(rec *Record) error {
			count++
			if rec.Time < l.last {
				t.Errorf("a frame of %d comes after one of %d", rec.Time, l.last)
			}
			if l.last = rec.Time; l.first == 0 {
				l.first = rec.Time
			}
			if ids[rec.ID] {
				t.Errorf("frame %d comes twice", rec.ID)
			}
			ids[rec.ID] = true
			if len(rec.Data) > RecordedBytes {
				t.Errorf("%d bytes are kept", len(rec.Data))
			}
			if rec.Verdict == vswitch.Hairpin {
				l.drops++
			} else {
				l.others++
			}
			return nil
		})
		testhost.Must(t, err)
		if since == 0 || count != l.drops+l.others {
			t.Errorf("%d frames came, since %d", count, since)
		}
		return l, since
	}
	l, since := dump(time.Hour)
	if l.drops != 1 || l.others == 0 || l.others >= frames {
		t.Errorf("%d drops and %d others were kept", l.drops, l.others)
	}
	if since <= l.first || since > l.last {
		t.Errorf("nothing is missing since %d, frames are from %d to %d", since, l.first, l.last)
	}
	n.send(1, 1, 201) // now both rings have it
	if l, _ := dump(time.Hour); l.drops != 2 {
		t.Errorf("%d drops were kept, want 2", l.drops)
	}
	if l, since := dump(1); l.drops+l.others != 0 || since < time.Now().Add(-time.Minute).UnixNano() {
		t.Errorf("of the last nanosecond: %+v, since %d", l, since)
	}
	if l, _ := dump(0); l.drops != 2 || l.others == 0 {
		t.Errorf("of all time: %+v", l)
	}
	if s := r.State(); s.Bytes != 1<<21 || s.Frames != frames+2 || s.Drops != 2 || s.Kept == 0 || s.Kept >= frames {
		t.Errorf("state: %+v", s)
	}

	testhost.Must(t, r.Resize(1<<22))
	n.send(1, 2, 1)
	began := time.Now().Add(-time.Hour).UnixNano()
	if l, since := dump(2 * time.Hour); l.others != 1 || l.drops != 0 || since < began {
		t.Errorf("after Resize: %+v, since %d", l, since)
	}
	testhost.Must(t, r.Resize(0))
	n.send(1, 2, 1)
	if len(h.subscribers) != 0 || r.Size() != 0 {
		t.Error("it is not off")
	}
}

// A slow reader of a dump misses nothing, however many frames come meanwhile.
func TestRecorderSlowReader(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	r := h.NewRecorder()
	testhost.Must(t, r.Resize(1<<21))
	defer r.Close()
	flood := func() {
		for i := range 30_000 {
			n.send(1, 2, byte(i))
		}
	}
	flood()
	var first, last uint64
	var since, oldest int64
	testhost.Must(t, r.Dump(0, func(at int64) error {
		since = at
		flood()
		return nil
	}, func(rec *Record) error {
		if first == 0 {
			first, oldest = rec.ID, rec.Time
			flood()
		} else if rec.ID != last+1 {
			t.Fatalf("frame %d comes after %d", rec.ID, last)
		}
		last = rec.ID
		return nil
	}))
	if last != 30_000 || first > 20_000 || since != oldest {
		t.Errorf("frames %d to %d came, want up to 30,000; nothing is missing since %d, the oldest is of %d", first, last, since, oldest)
	}
}

// It can be resized, and its memory freed, while others dump it.
func TestRecorderResizedMeanwhile(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	r := h.NewRecorder()
	testhost.Must(t, r.Resize(1<<21))
	defer r.Close()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for size := 1 << 21; ; size ^= 1<<21 | 1<<22 {
			select {
			case <-done:
				return
			default:
				if err := r.Resize(size); err != nil {
					t.Error(err)
				}
				for i := range 1000 {
					n.send(1, 2, byte(i))
				}
			}
		}
	})
	for range 300 {
		last := uint64(0)
		testhost.Must(t, r.Dump(0, func(int64) error { return nil }, func(rec *Record) error {
			if last > 0 && rec.ID != last+1 {
				t.Errorf("frame %d comes after %d", rec.ID, last)
			}
			last = rec.ID
			return nil
		}))
	}
	close(done)
	wg.Wait()
}

// The number of dumps is bounded, and so is the memory of their copies.
func TestDumpsBounded(t *testing.T) {
	h := NewHub()
	r := h.NewRecorder()
	defer r.Close()
	// within has n dumps begun and not ended, and gives why there were not as many.
	var within func(n int) error
	within = func(n int) (refused error) {
		if n == 0 {
			return nil
		}
		err := r.Dump(0, func(int64) error {
			refused = within(n - 1)
			return nil
		}, func(*Record) error { return nil })
		return cmp.Or(err, refused)
	}
	for _, c := range []struct {
		size, dumps int
		refused     string
	}{
		{1 << 21, MaxDumps, "4 dumps of the recorder are being read"},
		{1 << 28, 4, "4 dumps"},
		{1 << 29, 2, "a dump needs 576 MiB for its copy of the recorder, and those that are being read have 1152 of 1152"},
		{1 << 30, 1, "a dump needs 1152 MiB"},
	} {
		testhost.Must(t, r.Resize(c.size))
		testhost.Must(t, within(c.dumps))
		if err := within(c.dumps + 1); err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "try again when one of them has ended") {
			t.Errorf("%d MiB: one dump more than %d: %v", c.size>>20, c.dumps, err)
		}
		testhost.Must(t, within(c.dumps)) // what those before had is free again
	}
}

// A dump ends with the reader's first error.
func TestDumpError(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	r := h.NewRecorder()
	testhost.Must(t, r.Resize(1<<21))
	defer r.Close()
	n.send(1, 1, 1)
	n.send(1, 2, 2)
	n.send(1, 2, 3)
	stop := errors.New("stop")
	for after := range 4 {
		count := 0
		err := r.Dump(0, func(int64) error { return nil }, func(*Record) error {
			if count == after {
				return stop
			}
			count++
			return nil
		})
		if want := map[bool]error{true: stop}[after < 3]; err != want || count != after {
			t.Errorf("after %d frames: %v, %d came", after, err, count)
		}
	}
	if err := r.Dump(0, func(int64) error { return stop }, nil); err != stop {
		t.Errorf("at the beginning: %v", err)
	}
}
