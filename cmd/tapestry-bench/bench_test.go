package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/bench/report"
	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// fill sets every exported field in v: numbers and texts to what is not zero, lists to one element.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("text")
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Int:
		v.SetInt(2)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// Every key of a report is documented, and every documented one is there.
func TestBenchKeys(t *testing.T) {
	var r results.Report
	fill(reflect.ValueOf(&r).Elem())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(fake.DocumentedKeys(t)["bench"]))
	if got := fake.JSONKeys(v, ""); !slices.Equal(got, want) {
		t.Errorf("a report has\n%v\ndocs/json.md says\n%v", got, want)
	}
}

// The same of tapestry bench scale.
func TestScaleKeys(t *testing.T) {
	var r results.Scale
	fill(reflect.ValueOf(&r).Elem())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	v["machine"] = map[string]any{} // as of tapestry bench
	want := slices.Sorted(slices.Values(fake.DocumentedKeys(t)["bench scale"]))
	if got := fake.JSONKeys(v, ""); !slices.Equal(got, want) {
		t.Errorf("a scale has\n%v\ndocs/json.md says\n%v", got, want)
	}
}

// A part of a scale, as a table and as plots.
func TestScale(t *testing.T) {
	c := results.Curve{Name: "tunnel: memory of a peer", X: "peers", Y: "kB", Points: []results.Point{{X: 10, Y: 2}, {X: 100, Y: 20}, {X: 1000, Y: 200}}}
	flat := results.Curve{Name: "tunnel: a look-up", X: "peers", Y: "ns", Points: []results.Point{{X: 10, Y: 8}, {X: 1000, Y: 8}}}
	c.Fit()
	flat.Fit()
	r := &results.Scale{Parts: []results.Growth{{Name: "tunnel", What: "peers", Curves: []results.Curve{c, flat}}}, Skipped: []results.Skip{{What: "etcd", Why: "not there"}}}
	var out strings.Builder
	if err := report.WriteScaleTable(&out, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"TUNNEL: peers", "memory of a peer, kB  2.00  20.0  200   grows with N", "a look-up, ns         8.00  –     8.00  flat", "etcd: not there"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	dir := t.TempDir()
	if err := report.WriteScalePlots(dir, r); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scale-tunnel-memory-of-a-peer.svg", "scale-tunnel-a-look-up.svg"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(b, []byte("<svg ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The agent is started by the bench, with arguments of its own: it is in no help and in no completion.
func TestBenchAgentIsHidden(t *testing.T) {
	help, complete := run(t, "--help"), run(t, "__complete", "")
	if strings.Contains(help.out+complete.out, "agent") || help.code != exit.OK || !strings.HasPrefix(help.out, "Measure tapestry") || !strings.Contains(help.out, "Usage:\n  tapestry bench [") || complete.out != "help\tHelp about any command\nscale\tMeasure how a cluster's costs grow with its hosts, here\n:4\n" {
		t.Errorf("exit %d; help\n%s\ncompletion\n%s", help.code, help.out, complete.out)
	}
	if r := run(t, "agent", "--json"); r.code != exit.Failure || !strings.Contains(r.stderr, "want serve") {
		t.Errorf("an agent without a job: exit %d, %q", r.code, r.stderr)
	}
}

// What a report is written to is written also when the check fails, and then the exit is 1.
func TestBenchDeliver(t *testing.T) {
	r := &results.Report{Plan: "check", Cases: []results.Case{{Rung: "one host", Measure: "TCP, 1 flow", Unit: "Gb/s",
		Results: []results.Sample{{Setup: "tapestry", Values: []float64{5}, Median: 5}, {Setup: "kernel bridge", Values: []float64{10}, Median: 10}},
		Ratios: []results.Ratio{{Against: "kernel bridge", Values: []float64{0.5}, Median: 0.5, Low: 0.4, High: 0.6, Coverage: 0.96,
			Bound: 0.85, Aim: 1, Verdict: "below"}}}}}
	html := filepath.Join(t.TempDir(), "report.html")
	var out strings.Builder
	err := output{html: html}.deliver(&out, r, true)
	if err == nil || !strings.Contains(err.Error(), "one host: TCP, 1 flow: 0.50 of kernel bridge") || exit.Code(err) != exit.Failure {
		t.Errorf("the check says %v", err)
	}
	if !strings.Contains(out.String(), "ONE HOST\n") {
		t.Errorf("the table is\n%s", out.String())
	}
	if text, err := os.ReadFile(html); err != nil || !strings.Contains(string(text), "<html") {
		t.Errorf("the report in HTML: %v, %d bytes", err, len(text))
	}
}

type result struct {
	code        int
	out, stderr string
}

// run gives what `tapestry bench` with these arguments prints, and its exit code.
func run(t *testing.T, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := execute(t.Context(), args, &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // in the one line on stderr
	}{
		{"quick", exit.Usage, `no command "quick", did you mean --quick?`},
		{"--quick --check", exit.Usage, `--quick and --check are two plans`},
		{"--pairs 0", exit.Usage, `--pairs "0": want a number from 1 to 1000`},
		{"--seconds NaN", exit.Usage, `want seconds from 0.1 to 600`},
		{"--only quic", exit.Usage, `no rung and no measure of this plan has "quic" in its name`},
		{"--check --pairs 5", exit.Usage, `--check with --pairs 5 could never fail: want 6 pairs or more`},
		{"--merge one.json", exit.Usage, `--merge with 1 files: want two or more`},
		{"--merge one.json two.json --quick", exit.Usage, `--merge measures nothing`},
		{"--merge /dev/null /dev/null", exit.Failure, `/dev/null is not what tapestry bench --json prints`},
		{"scale --part swich", exit.Usage, `--part "swich": want one of etcd, gossip, member, directory, switch, tunnel`},
		{"scale --hosts 1", exit.Usage, `--hosts "1": want a number from 2 to 50000`},
		{"scale --plots /nowhere", exit.Usage, `--plots "/nowhere": want a directory that exists`},
		{"scale switch", exit.Usage, `no command "switch", see tapestry bench scale --help`},
		{"scal", exit.Usage, `no command "scal", did you mean scale?`},
		{"one.json", exit.Usage, `no command "one.json", see tapestry bench --help`},
		{"--merg", exit.Usage, `did you mean --merge?`},
		{"--api-socket /run/tapestry.sock --quick --check", exit.Usage, `--quick and --check are two plans`},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := run(t, strings.Fields(c.args)...)
			if r.code != c.code || !strings.HasPrefix(r.stderr, "tapestry: ") || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 || r.out != "" {
				t.Errorf("exit %d, want %d; stderr %q, want %q in one line; stdout %q", r.code, c.code, r.stderr, c.want, r.out)
			}
		})
	}
}

// The build stamps both programs alike.
func TestVersion(t *testing.T) {
	defer func(v, c string) { version, commit = v, c }(version, commit)
	version, commit = "v9.9.9", "0123abc"
	if r := run(t, "--version"); r.code != exit.OK || r.out != "tapestry bench version v9.9.9, commit 0123abc\n" {
		t.Errorf("exit %d, %q, %s", r.code, r.out, r.stderr)
	}
}
