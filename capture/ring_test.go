package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// numbered is a frame of size bytes that carries a number, and bytes that follow from it.
func numbered(number, size int) ether.Frame {
	room := make([]byte, ether.Headroom+size)
	b := room[ether.Headroom:]
	for i := range b[:min(256, size)] {
		b[i] = byte(number + i)
	}
	for n := 256; n < size; n *= 2 {
		copy(b[n:], b[:n])
	}
	binary.BigEndian.PutUint32(b, uint32(number))
	return ether.Lend(room, ether.Offload{Kind: ether.TCP6, PartialChecksum: number%2 == 0, Head: 74, Segment: uint16(number), ChecksumStart: 54, ChecksumOffset: 16})
}

func (rec *Record) clone() Record {
	c := *rec
	c.Data = bytes.Clone(rec.Data)
	return c
}

func number(r *Record) int { return int(binary.BigEndian.Uint32(r.Data)) }

func makeRing(t testing.TB, size int, overwrite bool) *ring {
	t.Helper()
	r, err := newRing(size, overwrite)
	testhost.Must(t, err)
	return r
}

// recent lends fn what a ring that overwrites has.
func recent(t testing.TB, r *ring, fn func(*Record)) int {
	t.Helper()
	c, err := r.snapshot()
	testhost.Must(t, err)
	defer c.release()
	return c.read(fn)
}

func TestNewRing(t *testing.T) {
	for _, size := range []int{-1, 0, 1 << 17, 1<<18 + 1, 3 << 18} {
		if _, err := newRing(size, false); err == nil {
			t.Errorf("a ring of %d bytes was made", size)
		}
	}
}

// What is put comes out, whole and in order, also across the end of the buffer, many times over.
func TestRing(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	sizes := rand.New(rand.NewPCG(1, 2))
	next, read := 0, 0
	var bytesPut int
	for bytesPut < 20<<18 {
		for range 1 + sizes.IntN(40) {
			size := 4 + sizes.IntN(3000)
			if sizes.IntN(50) == 0 {
				size = ether.MaxFrame
			}
			f := numbered(next, size)
			f.ID = uint64(next) << 40
			if !r.add(7, uint32(next), vswitch.Hairpin, &f, 1<<20) {
				break
			}
			bytesPut += size
			next++
		}
		last := int64(0)
		r.read(func(rec *Record) {
			f := numbered(read, rec.Len)
			if number(rec) != read || !bytes.Equal(rec.Data, f.Bytes()) || rec.Off != f.Off {
				t.Fatalf("record %d is number %d of %d bytes, %+v", read, number(rec), rec.Len, rec.Off)
			}
			if rec.In != 7 || rec.Out != uint32(read) || rec.Verdict != vswitch.Hairpin || rec.ID != uint64(read)<<40 {
				t.Fatalf("record %d: %+v", read, rec)
			}
			if rec.Time < last || rec.Time == 0 {
				t.Fatalf("record %d is of %d, the one before of %d", read, rec.Time, last)
			}
			last = rec.Time
			read++
		})
		if read != next {
			t.Fatalf("%d were put and %d came out", next, read)
		}
	}
}

// Of a longer frame the ring keeps the beginning and the length.
func TestRingSnap(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	f := numbered(5, 1000)
	r.add(1, 2, vswitch.Forwarded, &f, 128)
	r.read(func(rec *Record) {
		if rec.Len != 1000 || !bytes.Equal(rec.Data, f.Bytes()[:128]) {
			t.Errorf("%d bytes of %d were kept", len(rec.Data), rec.Len)
		}
	})
}

// A full ring drops what is new, and counts it; when it has been read there is room again.
func TestRingFull(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	taken, refused := 0, 0
	for i := range 1000 {
		f := numbered(i, 1000)
		if r.add(1, 2, vswitch.Forwarded, &f, 1000) {
			taken++
		} else {
			refused++
		}
	}
	if want := (1 << 18) / (headLen + entryLen(1000)); taken != want || r.accepted != uint64(taken) || r.dropped != uint64(refused) {
		t.Fatalf("%d taken (%d), %d refused (%d), want %d taken", taken, r.accepted, refused, r.dropped, want)
	}
	first := -1
	if n := r.read(func(rec *Record) {
		if first < 0 {
			first = number(rec)
		}
	}); n != taken || first != 0 {
		t.Errorf("%d of %d came out, from %d", n, taken, first)
	}
	f := numbered(1, 1000)
	if !r.add(1, 2, vswitch.Forwarded, &f, 1000) {
		t.Error("there is no room in an empty ring")
	}
}

// A full ring drops its oldest records in parts, and no more than needed.
func TestRingGivesUp(t *testing.T) {
	const size, data = 1 << 20, 72
	r := makeRing(t, size, true)
	f := numbered(1, data)
	fits := size / (headLen + entryLen(data))
	for i := range 10 * fits {
		r.add(1, 2, vswitch.Forwarded, &f, data)
		if kept := int(r.accepted - r.dropped); i >= fits && kept < fits*98/100 {
			t.Fatalf("after %d frames %d are kept of %d that fit", i+1, kept, fits)
		}
	}
}

// The smallest ring has room for the longest frames, wherever in it they begin.
func TestRingLongest(t *testing.T) {
	r := makeRing(t, 1<<18, true)
	sizes := rand.New(rand.NewPCG(7, 8))
	frames := make([]ether.Frame, 3)
	rounds := 2000
	if testing.Short() { // the race detector notes each of a GB of bytes
		rounds = 200
	}
	for i := range rounds {
		for k := range frames {
			frames[k] = numbered(i, ether.MaxFrame-sizes.IntN(2)*sizes.IntN(ether.MaxFrame-4))
			frames[k].ID = uint64(3*i + k)
		}
		r.addRun(1, 2, vswitch.Forwarded, frames, ether.MaxFrame, false)
		last := uint64(0)
		n := recent(t, r, func(rec *Record) {
			if want := numbered(int(rec.ID/3), rec.Len); !bytes.Equal(rec.Data, want.Bytes()) || last > 0 && rec.ID != last+1 {
				t.Fatalf("frame %d of %d bytes after %d", rec.ID, rec.Len, last)
			}
			last = rec.ID
		})
		if n == 0 || last != uint64(3*i+2) || uint64(n) != r.accepted-r.dropped {
			t.Fatalf("%d frames up to %d, %d were put and %d dropped", n, last, r.accepted, r.dropped)
		}
	}
}

// Frames that are put together come out as if they had been put one by one.
func TestRingRun(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		snap    int
		headers bool
	}{{RecordedBytes, true}, {RecordedBytes, false}, {ether.MaxFrame, false}} {
		runs, single := makeRing(t, 1<<20, true), makeRing(t, 1<<22, true)
		runs.now = func() int64 { return 7 }
		single.now = runs.now
		id := uint64(0)
		for range 2000 {
			frames := make([]ether.Frame, 1+random.IntN(200))
			var size, off, fault int
			for i := range frames {
				if i == 0 || random.IntN(10) == 0 {
					size, off, fault = random.IntN(2000), random.IntN(2), random.IntN(4)/3
				}
				frames[i] = numbered(i, max(4, size))
				binary.BigEndian.PutUint32(frames[i].Bytes(), uint32(id))
				if len(frames[i].Bytes()) > 60 && random.IntN(2) == 0 {
					copy(frames[i].Bytes()[12:], "\x08\x00\x45\x00\x00\x00\x00\x00\x00\x00\x00\x11") // UDP
				}
				frames[i].Off.Segment, frames[i].Off.PartialChecksum = uint16(off), off > 0
				frames[i].Fault = ether.Fault(fault)
				id++
				frames[i].ID = id
			}
			runs.addRun(3, 4, vswitch.Forwarded, frames, c.snap, c.headers)
			for i := range frames {
				n := c.snap
				if c.headers {
					n = min(n, frames[i].HeadersLen())
				}
				single.add(3, 4, vswitch.Forwarded, &frames[i], n)
			}
		}
		var want []Record
		recent(t, single, func(rec *Record) { want = append(want, rec.clone()) })
		skip, came := -1, 0
		recent(t, runs, func(rec *Record) {
			if skip < 0 {
				skip = slices.IndexFunc(want, func(w Record) bool { return w.ID == rec.ID })
				want = want[max(skip, 0):]
			}
			if came++; len(want) == 0 || !reflect.DeepEqual(*rec, want[0]) {
				t.Fatalf("%+v: frame %d in the ring of runs is %+v", c, came, rec)
			}
			want = want[1:]
		})
		if came < 100 || len(want) > 0 || runs.accepted != id || uint64(came) != runs.accepted-runs.dropped {
			t.Errorf("%+v: %d frames came, %d are missing; of %d were put %d, dropped %d", c, came, len(want), id, runs.accepted, runs.dropped)
		}
	}
}

// A ring that overwrites keeps the newest records without a gap, and its counters add up.
func TestRingOverwrites(t *testing.T) {
	r := makeRing(t, 1<<18, true)
	sizes := rand.New(rand.NewPCG(3, 4))
	for i := range 5000 {
		f := numbered(i, 4+sizes.IntN(2000))
		if !r.add(1, 2, vswitch.Forwarded, &f, 2000) {
			t.Fatal("it has no room")
		}
		if i%100 != 0 {
			continue
		}
		expect := i + 1 - int(r.accepted-r.dropped)
		n := recent(t, r, func(rec *Record) {
			if number(rec) != expect {
				t.Fatalf("after %d there is %d, want %d", i, number(rec), expect)
			}
			expect++
		})
		if uint64(n) != r.accepted-r.dropped || expect != i+1 {
			t.Fatalf("%d records are there, want %d; the last is %d of %d", n, r.accepted-r.dropped, expect-1, i)
		}
	}
	if r.dropped == 0 {
		t.Error("nothing was overwritten")
	}
}

// Several producers and a reader, or one that takes snapshots: each producer's frames stay in order, time never goes
// back, nothing is torn, and every frame is accounted for.
func TestRingTogether(t *testing.T) {
	const producers, frames = 4, 20_000
	for _, overwrite := range []bool{false, true} {
		r := makeRing(t, 1<<18, overwrite)
		var wg sync.WaitGroup
		var taken [producers]int
		for p := range producers {
			wg.Go(func() {
				var run []ether.Frame
				for i := range frames {
					f := numbered(i, 4+(i*37)%700)
					if overwrite {
						if run = append(run, f); len(run) == 20 {
							r.addRun(uint32(p), 0, vswitch.Forwarded, run, 800, false)
							run = run[:0]
						}
						continue
					}
					if r.add(uint32(p), 0, vswitch.Forwarded, &f, 800) {
						taken[p]++
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		var came [producers]int
		look := func() {
			last, lastTime := [producers]int{-1, -1, -1, -1}, int64(0)
			f := func(rec *Record) {
				n := number(rec)
				want := numbered(n, rec.Len)
				hole := n <= last[rec.In] || overwrite && last[rec.In] >= 0 && n != last[rec.In]+1
				if !bytes.Equal(rec.Data, want.Bytes()) || hole || rec.Time < lastTime {
					t.Fatalf("producer %d: frame %d after %d, at %d after %d", rec.In, n, last[rec.In], rec.Time, lastTime)
				}
				last[rec.In], lastTime = n, rec.Time
				came[rec.In]++
			}
			if overwrite {
				recent(t, r, f)
			} else {
				r.read(f)
			}
		}
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			case <-r.ready:
			}
			look()
		}
		if all := r.accepted + r.dropped; !overwrite && all != producers*frames || overwrite && r.accepted != producers*frames {
			t.Errorf("%d put and %d dropped of %d", r.accepted, r.dropped, producers*frames)
		}
		if !overwrite && came != taken {
			t.Errorf("%v were put and %v came out", taken, came)
		}
	}
}

// A clock that is set back does not put later frames before earlier ones.
func TestRingClock(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	const year = int64(365 * 24 * time.Hour)
	clock := []int64{100, 50, 200, 20 * year, 300} // the last but one was wrong: what comes behind it is not
	r.now = func() int64 { n := clock[0]; clock = clock[1:]; return n }
	f := numbered(0, 60)
	for range 5 {
		r.add(1, 2, vswitch.Forwarded, &f, 60)
	}
	var times []int64
	r.read(func(rec *Record) { times = append(times, rec.Time) })
	if want := []int64{100, 100, 200, 20 * year, 300}; !slices.Equal(times, want) {
		t.Errorf("times are %v, want %v", times, want)
	}
}
