package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a real etcd-server of one member, on loopback, with its data in a temporary directory.
type server struct {
	program, dir, client, peer string
	cmd                        *exec.Cmd
	log                        bytes.Buffer
}

// newServer starts one and waits until it listens.
func newServer(ctx context.Context, program string) (*server, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%w: install etcd-server, or give its path by --etcd", err)
	}
	s := &server{program: path}
	if s.dir, err = os.MkdirTemp("/dev/shm", "tapestry-scale-"); err != nil { // in memory, where that is: it syncs after each write
		s.dir, err = os.MkdirTemp("", "tapestry-scale-")
	}
	if err == nil {
		s.client, err = freePort()
	}
	if err == nil {
		s.peer, err = freePort()
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start starts it, or starts it again with the same data.
func (s *server) start(ctx context.Context) error {
	s.log.Reset()
	s.cmd = exec.Command(s.program, "--name", "n1", "--data-dir", s.dir, "--log-level", "error", "--logger", "zap",
		"--listen-client-urls", "http://"+s.client, "--advertise-client-urls", "http://"+s.client,
		"--listen-peer-urls", "http://"+s.peer, "--initial-advertise-peer-urls", "http://"+s.peer, "--initial-cluster", "n1=http://"+s.peer)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=arm64") // or else it does not start there
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start %s: %w", s.program, err)
	}
	return until(ctx, func() bool {
		c, err := net.Dial("tcp", s.client)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends it without a word.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // it has ended by itself, if not
		_ = s.cmd.Wait()         // the signal
		s.cmd = nil
	}
}

func (s *server) close() {
	s.kill()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // in a temporary directory
	}
}

// memory is its resident memory in bytes, proc_pid_status(5).
func (s *server) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest + " ?")[0], 64)
	return kib * 1024, err
}

// taken is its processor time, proc_pid_stat(5).
func (s *server) taken() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is short")
	}
	user, err := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err, err2) // USER_HZ is 100 on all of Go's platforms
}

// descriptors refuses a number of connections that this process, or its children, may not have.
func descriptors(n int) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Max < uint64(n) {
		return fmt.Errorf("%d open files are allowed, and %d are needed: `ulimit -n %d` as root, or a smaller number", l.Max, n, n)
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
