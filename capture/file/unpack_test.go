package file

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// plain is what looks like a capture, packed into several blocks: parts that repeat, and parts that do not.
func plain(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1}
	for len(b) < n {
		b = append(b, make([]byte, 60)...)
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10)) // a stream: not one segment
	if err != nil {
		t.Fatal(err)
	}
	for ; len(b) > 0; b = b[min(len(b), 5000):] {
		if _, err := w.Write(b[:min(len(b), 5000)]); err != nil || w.Flush() != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// skipped is a frame of zstd's that is to be skipped; pzstd writes one before each other.
func skipped(n int) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte("\x5e\x2a\x4d\x18"), uint32(n)), make([]byte, n)...)
}

// zstdHead begins a frame with the least window of at least so many bytes.
func zstdHead(window int) []byte {
	log := 10
	for 1<<log < window {
		log++
	}
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3}
}

// zstdZeros is a block of so many zeros; last: of its frame.
func zstdZeros(n int, last bool) []byte {
	const rle = 1
	head := uint32(n)<<3 | rle<<1
	if last {
		head |= 1
	}
	return []byte{byte(head), byte(head >> 8), byte(head >> 16), 0}
}

func unpacked(b []byte) ([]byte, error) {
	s, err := Unpack(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

// A packed file is unpacked to what it was, from one gzip member or zstd frame or from several.
func TestUnpack(t *testing.T) {
	a, b := plain(30_000), plain(1000)
	both := append(bytes.Clone(a), b...)
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"plain", a, a},
		{"nothing", nil, []byte{}},
		{"three bytes", a[:3], a[:3]},
		{"gzip", gzipped(t, a), a},
		{"gzip of nothing", gzipped(t, nil), []byte{}},
		{"gzip, two members", append(gzipped(t, a), gzipped(t, b)...), both},
		{"zstd", zstandard(t, a), a},
		{"zstd, two frames", append(zstandard(t, a), zstandard(t, b)...), both},
		{"zstd as by pzstd", append(append(append(skipped(4), zstandard(t, a)...), skipped(4)...), zstandard(t, b)...), both},
		{"zstd, the largest window", append(zstdHead(maxWindow), zstdZeros(100, true)...), make([]byte, 100)},
	} {
		if got, err := unpacked(c.in); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, want %d, and then %v", c.name, len(got), len(c.want), err)
		}
	}
}

// A file that is cut off or damaged anywhere ends with an error that says so, and not as if it were complete.
func TestUnpackBroken(t *testing.T) {
	want, every := plain(12_000), 50
	if testing.Short() {
		every = 10
	}
	for name, whole := range map[string][]byte{"gzip": gzipped(t, want), "zstd": zstandard(t, want)} {
		for n := 4; n < len(whole); n += 1 + n/every {
			got, err := unpacked(whole[:n])
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "unpack by "+name+": the file is cut off") || !bytes.HasPrefix(want, got) {
				t.Fatalf("%s, %d of %d bytes: %d bytes, and then %v", name, n, len(whole), len(got), err)
			}
		}
		for i := 4; i < len(whole); i += 1 + i/every {
			spoiled := bytes.Clone(whole)
			spoiled[i] ^= 0x15
			if got, err := unpacked(spoiled); err == nil && !bytes.Equal(got, want) || err != nil && !strings.HasPrefix(err.Error(), "unpack by "+name) {
				t.Fatalf("%s, byte %d changed: %d bytes, and then %v", name, i, len(got), err)
			}
		}
		if got, err := unpacked(append(bytes.Clone(whole), "more"...)); err == nil || !bytes.Equal(got, want) {
			t.Errorf("%s with something behind it: %d bytes, and then %v", name, len(got), err)
		}
	}
}

// A small file cannot ask for more memory than maxWindow.
func TestUnpackWindow(t *testing.T) {
	single := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 0, 0, 0, 0, 2, 0, 0, 0) // one segment of 8 GiB
	for name, b := range map[string][]byte{"window": zstdHead(2 * maxWindow), "one segment": single} {
		got, err := unpacked(append(b, zstdZeros(100, true)...))
		if err == nil || len(got) > 0 || !strings.HasSuffix(err.Error(), "more than 128 MiB of memory to unpack: do that first, zstd -d --long=31") {
			t.Errorf("%s: %d bytes, and then %v", name, len(got), err)
		}
	}
}

// repeated is something many times over.
func repeated(b []byte, n int) io.Reader {
	all := make([]io.Reader, n)
	for i := range all {
		all[i] = bytes.NewReader(b)
	}
	return io.MultiReader(all...)
}

// peak reads everything, and gives its length and the most memory that lived meanwhile beside what lived before, in bytes.
func peak(t *testing.T, r io.Reader) (n int64, most uint64) {
	t.Helper()
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	s, err := Unpack(r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		m, err := io.CopyN(io.Discard, s, 64<<20)
		n += m
		if now := live(); now > before {
			most = max(most, now-before)
		}
		if err == io.EOF {
			return n, most
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A small file that unpacks to very much needs no more memory than any other.
func TestUnpackBomb(t *testing.T) {
	size, windows := 384<<20, []int{1 << 20, maxWindow}
	if testing.Short() {
		size, windows = 32<<20, windows[:1]
	}
	if n, most := peak(t, repeated(gzipped(t, make([]byte, 1<<20)), size>>20)); n != int64(size) || most > 4<<20 {
		t.Errorf("gzip: %d MiB came of it, with %d kB of memory", n>>20, most>>10)
	}
	for _, window := range windows {
		block := min(128<<10, window)
		blocks := io.MultiReader(bytes.NewReader(zstdHead(window)), repeated(zstdZeros(block, false), size/block), bytes.NewReader(zstdZeros(1, true)))
		n, most := peak(t, blocks)
		if n != int64(size)+1 || most > uint64(2*window+4<<20) {
			t.Errorf("zstd, a window of %d MiB: %d MiB came of it, with %d MiB of memory", window>>20, n>>20, most>>20)
		}
	}
}

// FuzzUnpack: whatever a file has, it comes out in the same way however it is read, what is not packed as it is, and what two readers
// of zstd make of it is the same. Nothing panics.
func FuzzUnpack(f *testing.F) {
	small := plain(600)
	for _, b := range [][]byte{nil, {0x1f, 0x8b}, small, gzipped(f, small), gzipped(f, nil), append(gzipped(f, small), gzipped(f, small[:9])...),
		zstandard(f, small), append(skipped(3), zstandard(f, small)...), append(zstandard(f, small), "more"...),
		append(zstdHead(2*maxWindow), zstdZeros(9, true)...), append(zstdHead(1<<20), append(zstdZeros(1<<17, false), zstdZeros(9, true)...)...),
		{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 2, 0, 0, 0, 0x4b, 0, 0, 0}} {
		f.Add(b, uint16(7))
		f.Add(b[:len(b)/2], uint16(1000))
	}
	const most = 1 << 18
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		if len(b) > 6 && bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) && b[4]&0x20 == 0 && b[5]>>3 > 8 {
			b = bytes.Clone(b)
			b[5] &= 7 // a large window is taken, but a hundred thousand a second are too much
		}
		read := func(size int) (got []byte, err error) {
			s, err := Unpack(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			defer s.Close()
			for part := make([]byte, size); err == nil && len(got) < most; {
				var n int
				n, err = s.Read(part)
				got = append(got, part[:n]...)
			}
			return got[:min(len(got), most)], err
		}
		got, err := read(64 << 10)
		again, errAgain := read(int(step) + 1)
		if !bytes.Equal(got, again) || len(got) < most && (err == nil || errAgain == nil || err.Error() != errAgain.Error()) {
			t.Fatalf("%d bytes, and then %v; in steps of %d %d bytes, and then %v", len(got), err, step+1, len(again), errAgain)
		}
		packed := len(b) >= 4 && (b[0] == 0x1f && b[1] == 0x8b || isZstd([4]byte(b)))
		if !packed && (len(b) <= most && !bytes.Equal(got, b) || len(got) < most && err != io.EOF) {
			t.Fatalf("what is not packed comes out as %d bytes of %d, and then %v", len(got), len(b), err)
		}
		if !packed || b[0] == 0x1f || err != io.EOF || len(got) == most {
			return
		}
		other, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(most))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if want, err := other.DecodeAll(b, nil); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, another reader has %d", len(got), len(want))
		}
	})
}
