package traffic

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// The tests' own binary is also the agent, which needs a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		if err := Agent(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func agent(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, self, append([]string{"agent"}, args...)...)
}

// served starts an agent for the test and returns its address.
func served(t *testing.T, listen string) string {
	t.Helper()
	if l, err := net.Listen("tcp", listen); err != nil {
		testhost.Cannot(t, "cannot listen: ", err)
	} else {
		l.Close()
	}
	cmd := agent(t, "serve", listen)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Ready string }
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	return r.Ready
}

func asked(t *testing.T, address string, j Job) (Answer, error) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	return ParseAnswer(agent(t, string(text), address).Output())
}

// As on a bed, one agent serves all jobs, one after the other. On a busy machine a job may hardly get to run in its time, so
// each has ten tries, of which each takes longer.
func TestAgent(t *testing.T) {
	const d = 200 * time.Millisecond
	for _, on := range []struct{ name, address string }{{"IPv4", "127.0.0.1:0"}, {"IPv6", "[::1]:0"}} {
		t.Run(on.name, func(t *testing.T) {
			address := served(t, on.address)
			for _, c := range []struct {
				name string
				job  Job
				good func(a Answer, d time.Duration) bool
			}{
				{"stream forward", Job{Kind: "stream", Flows: 1, Direction: Forward, For: d}, moved},
				{"stream reverse", Job{Kind: "stream", Flows: 2, Direction: Reverse, For: d}, moved},
				{"stream both", Job{Kind: "stream", Flows: 4, Direction: Both, For: d}, moved},
				{"echo tcp", Job{Kind: "echo", Network: "tcp", For: d}, echoed},
				{"echo udp", Job{Kind: "echo", Network: "udp", For: d}, echoed},
				{"packets", Job{Kind: "packets", Size: 64, For: 2 * d}, func(a Answer, _ time.Duration) bool {
					return a.Value > 1000 && a.Packets > 100 && len(a.Rates) > 0
				}},
				{"order, trains", Job{Kind: "order", Flows: 3, Size: 64, Frames: 64_000, Train: 64, For: time.Minute}, inOrder(64_000)},
				{"order, singly", Job{Kind: "order", Flows: 2, Size: 64, Frames: 10_000, Train: 1, For: time.Minute}, inOrder(10_000)},
			} {
				t.Run(c.name, func(t *testing.T) {
					for try := 1; ; try++ {
						j := c.job
						j.For *= time.Duration(try)
						a, err := asked(t, address, j)
						if err != nil && (try == 10 || !tooBusy(err)) {
							t.Fatal(err)
						}
						if a.Reordered > 0 || a.Duplicates > 0 || a.Received > a.Sent {
							t.Fatalf("%+v", a)
						}
						if err == nil && c.good(a, j.For) {
							return
						}
						if try == 10 {
							t.Fatalf("ten times %+v", a)
						}
					}
				})
			}
		})
	}
}

// tooBusy says whether an agent, which reports its errors as text, found the machine too busy to measure.
func tooBusy(err error) bool {
	return strings.Contains(err.Error(), errNoRate.Error()) || strings.Contains(err.Error(), errNotConfirmed.Error())
}

func moved(a Answer, d time.Duration) bool {
	gbps := a.Bytes * 8 / 1e9 / (0.9 * d.Seconds()) // a tenth of the time is not measured
	return a.Value > 0.1 && a.Value < 10_000 && gbps > a.Value/2 && gbps < a.Value*4
}

func echoed(a Answer, _ time.Duration) bool {
	if len(a.CDF) == 0 {
		return false
	}
	end := a.CDF[len(a.CDF)-1]
	return a.Count > 10 && a.P50 > 0 && a.P50 <= a.P99 && a.P99 <= a.P999 && a.P999 <= end.X && end.Y == 1 && len(a.CDF) <= 200
}

func inOrder(frames int) func(Answer, time.Duration) bool {
	return func(a Answer, _ time.Duration) bool {
		return a.Sent == frames && a.Received > frames*9/10
	}
}

// After nonsense, and after clients that close the connection in the middle of a job, an agent does the next job.
func TestAgentSurvivesBadClients(t *testing.T) {
	address := served(t, "127.0.0.1:0")
	for _, text := range []string{"", "\x16\x03\x01", "{}\n", `{"job":"stream","for":100000000,"flows":9999,"direction":"both"}` + "\n",
		`{"job":"stream","for":100000000,"flows":2,"direction":"both"}` + "\n", `{"job":"order","for":100000000,"flows":1,"size":64,"frames":1,"train":64}` + "\n",
		`{"job":"echo","for":100000000,"network":"udp"}` + "\n", `{"job":"packets","for":100000000,"size":64}` + "\n{\"trial\":1}\n"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	for try := time.Duration(1); ; try++ {
		a, err := asked(t, address, Job{Kind: "echo", Network: "tcp", For: try * time.Second})
		if err == nil && a.Count > 0 {
			break
		}
		if try == 10 || err != nil && !tooBusy(err) {
			t.Fatalf("after all that: %+v, %v", a, err)
		}
	}
}

func TestJobCheck(t *testing.T) {
	for name, c := range map[string]struct{ text, err string }{
		"good":            {`{"job":"echo","for":1000000000,"network":"udp"}`, ""},
		"no JSON":         {`echo`, "read the job"},
		"unknown":         {`{"job":"dance","for":1000000000}`, `unknown job "dance"`},
		"for ever":        {`{"job":"echo","for":1000000000000000,"network":"udp"}`, "50ms to 10m"},
		"for a moment":    {`{"job":"echo","network":"udp"}`, "50ms to 10m"},
		"no network":      {`{"job":"echo","for":1000000000}`, "neither tcp nor udp"},
		"no direction":    {`{"job":"stream","for":1000000000,"flows":1}`, "none of forward"},
		"no flow":         {`{"job":"stream","for":1000000000,"direction":"both"}`, "1 to 32 flows"},
		"flows":           {`{"job":"stream","for":1000000000,"flows":33,"direction":"both"}`, "1 to 32 flows"},
		"no header":       {`{"job":"packets","for":1000000000,"size":11}`, "12 to 1472 bytes"},
		"too long":        {`{"job":"packets","for":1000000000,"size":1473}`, "12 to 1472 bytes"},
		"too long trains": {`{"job":"order","for":1000000000,"flows":1,"size":1400,"frames":9,"train":64}`, "trains of 64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseJob([]byte(c.text))
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

func TestParseAnswer(t *testing.T) {
	died := errors.New("exit status 1")
	for name, c := range map[string]struct {
		out   string
		ended error
		err   string
	}{
		"good":                      {`{"value":9.5,"bytes":1e9,"cpu":0.7}` + "\n", nil, ""},
		"its own error":             {`{"error":"connection refused"}` + "\n", died, "connection refused"},
		"killed":                    {"", &exec.ExitError{ProcessState: &os.ProcessState{}, Stderr: []byte("no such command\n")}, "no such command"},
		"nothing":                   {"", nil, "read the agent's answer"},
		"half":                      {`{"value":9.`, nil, "read the agent's answer"},
		"an answer, then a failure": {`{"value":9.5}`, died, "the agent ended"},
		"wrong kind":                {`{"value":"fast"}`, nil, "read the agent's answer"},
		"negative":                  {`{"value":-1}`, nil, "which is impossible"},
		"too large":                 {`{"value":1e999}`, nil, "read the agent's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseAnswer([]byte(c.out), c.ended)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

// A descriptor that was taken blocks, and is not in the runtime's poller.
func TestTakeDescriptor(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := takeDescriptor(conn.(*net.UDPConn))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := receiveTimeout(fd, 30*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, _, err = syscall.Recvfrom(fd, make([]byte, 10), 0)
	if took := time.Since(began); err != syscall.EAGAIN || took < 20*time.Millisecond {
		t.Errorf("a read gave %v after %v, want EAGAIN after the timeout", err, took)
	}
}
