package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A server is a real etcd, a child of the test.
type server struct {
	t        testing.TB
	name     string
	dir      string // of its data
	client   string // HOST:PORT
	peer     string
	args     []string
	cmd      *exec.Cmd
	log      *testhost.Log
	scheme   string
	admin    *tls.Config // of who examines it
	user     string      // NAME:PASSWORD, the same
	examiner *clientv3.Client
}

// newServer starts an etcd of one member.
func newServer(t testing.TB, args ...string) *server {
	s := makeServer(t, "n1", args...)
	s.start()
	s.wait()
	return s
}

// makeServer is one that is not started yet.
func makeServer(t testing.TB, name string, args ...string) *server {
	t.Helper()
	testhost.Tools(t, "etcd")
	s := &server{t: t, name: name, dir: memory(t), client: freePort(t), peer: freePort(t), args: args, log: new(testhost.Log), scheme: "http"}
	t.Cleanup(s.kill)
	return s
}

// memory is a directory in memory, where that is: this etcd syncs after each write.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tapestry-etcd-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePort is one that nobody else takes, also not while the etcd is stopped.
func freePort(t testing.TB) string {
	t.Helper()
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), testhost.UDPPort(t)).String()
}

// start starts it, or starts it again with the same data.
func (s *server) start() {
	s.t.Helper()
	args := append([]string{
		"--name", s.name, "--data-dir", s.dir, "--log-level", "warn", "--logger", "zap",
		"--listen-client-urls", s.scheme + "://" + s.client, "--advertise-client-urls", s.scheme + "://" + s.client,
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
	}, s.args...)
	if !strings.Contains(strings.Join(s.args, " "), "--initial-cluster ") {
		args = append(args, "--initial-cluster", s.name+"=http://"+s.peer)
	}
	s.cmd = exec.Command("etcd", args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=arm64") // or else it does not start there
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	testhost.Must(s.t, s.cmd.Start())
}

// wait waits until it answers.
func (s *server) wait() {
	s.t.Helper()
	c := s.examine()
	var last error
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%v; etcd says:\n%s", last, s.log)
		}
	}()
	testhost.Until(s.t, "etcd answers", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), testhost.Patience)
		defer cancel()
		_, last = c.Get(ctx, "x")
		return last == nil
	})
}

// examine is a client of the test itself.
func (s *server) examine() *clientv3.Client {
	s.t.Helper()
	if s.examiner == nil {
		user, password, _ := strings.Cut(s.user, ":")
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.scheme + "://" + s.client}, Logger: zap.NewNop(), TLS: s.admin, Username: user, Password: password})
		testhost.Must(s.t, err)
		s.examiner = c
		s.t.Cleanup(func() { c.Close() })
	}
	return s.examiner
}

// kill ends it without a word.
func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// signal stops it and lets it go on: SIGSTOP, SIGCONT.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	testhost.Must(s.t, s.cmd.Process.Signal(sig))
	if sig != syscall.SIGSTOP {
		return
	}
	testhost.Until(s.t, "all of etcd's threads are stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
		testhost.Must(s.t, err)
		for _, path := range threads {
			if b, err := os.ReadFile(path); err == nil && !strings.Contains(string(b), "State:\tT") {
				return false
			}
		}
		return len(threads) > 0
	})
}

// save copies its data, as a backup does. It is stopped for so long.
func (s *server) save() string {
	s.t.Helper()
	s.kill()
	to := memory(s.t)
	testhost.Must(s.t, os.CopyFS(filepath.Join(to, "data"), os.DirFS(s.dir)))
	s.start()
	s.wait()
	return to
}

// restore gives it what was saved; "" is nothing.
func (s *server) restore(from string) {
	s.t.Helper()
	s.kill()
	testhost.Must(s.t, os.RemoveAll(s.dir))
	if from != "" {
		testhost.Must(s.t, os.CopyFS(s.dir, os.DirFS(filepath.Join(from, "data"))))
	}
	s.start()
	s.wait()
}

func (s *server) get(key string) string {
	s.t.Helper()
	r, err := s.examine().Get(s.t.Context(), key)
	testhost.Must(s.t, err)
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func (s *server) put(key, value string) {
	s.t.Helper()
	_, err := s.examine().Put(s.t.Context(), key, value)
	testhost.Must(s.t, err)
}

// proxyTo makes a proxy before it.
func (s *server) proxyTo() *proxy { return newProxy(s.t, s.client) }

// three starts an etcd of three members.
func three(t testing.TB) []*server {
	t.Helper()
	var all []*server
	var names []string
	for i := range 3 {
		s := makeServer(t, fmt.Sprintf("n%d", i+1))
		all, names = append(all, s), append(names, s.name+"=http://"+s.peer)
	}
	for _, s := range all {
		s.args = []string{"--initial-cluster", strings.Join(names, ",")}
		s.start()
	}
	for _, s := range all {
		s.wait()
	}
	return all
}

// leader finds the one that is leader.
func leader(t testing.TB, all []*server) (leads *server, rest []*server) {
	t.Helper()
	for _, s := range all {
		if s.cmd == nil {
			continue
		}
		r, err := s.examine().Status(t.Context(), s.scheme+"://"+s.client)
		testhost.Must(t, err)
		if r.Header.MemberId == r.Leader {
			leads = s
		} else {
			rest = append(rest, s)
		}
	}
	if leads == nil {
		t.Fatal("no member is leader")
	}
	return leads, rest
}
