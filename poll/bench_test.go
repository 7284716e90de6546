package poll

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// answer is a Source that writes back each byte that it reads.
type answer struct{ in, out int }

func (a answer) Fd() int { return a.in }

func (a answer) Drain(arena []byte) error {
	if n, _ := unix.Read(a.in, arena[:1]); n == 1 {
		_, err := unix.Write(a.out, arena[:1])
		return err
	}
	return nil
}

// ends are those of a pipe.
func ends(b *testing.B) (r, w int) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

// BenchmarkWakeUp asks a worker and waits for its answer: two wake-ups, the worker's and the asker's. Beside the source
// that is asked there are idle ones, which must cost nothing.
func BenchmarkWakeUp(b *testing.B) {
	for _, k := range []struct {
		name string
		idle int
	}{{"alone", 0}, {"1000 idle", 1000}} {
		b.Run(k.name, func(b *testing.B) {
			p, err := New(1)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			in, ask := ends(b)
			heard, out := ends(b)
			broken := func(err error) { b.Errorf("a source that works has failed: %v", err) }
			if _, err := p.Add(answer{in, out}, 0, broken); err != nil {
				b.Fatal(err)
			}
			for range k.idle {
				in, _ := ends(b)
				if _, err := p.Add(answer{in, out}, 0, broken); err != nil {
					b.Fatal(err)
				}
			}
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			one := []byte{1}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := unix.Write(ask, one); err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := unix.Poll([]unix.PollFd{{Fd: int32(heard), Events: unix.POLLIN}}, -1); err != nil && err != unix.EINTR {
						b.Fatal(err)
					}
					if n, _ := unix.Read(heard, one); n == 1 {
						break
					}
				}
			}
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
