package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/bench"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

// whole fills every field that v leads to: numbers and texts that are not zero, lists of one.
func whole(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				whole(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		whole(v.Index(0))
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
	var r bench.Report
	whole(reflect.ValueOf(&r).Elem())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(fake.Documented(t)["bench"]))
	if got := fake.KeysOf(v, ""); !slices.Equal(got, want) {
		t.Errorf("a report has\n%v\ndocs/json.md says\n%v", got, want)
	}
}

// The agent is started by the bench, with arguments of its own: it is in no help and in no completion.
func TestBenchAgentIsHidden(t *testing.T) {
	help, complete := tapestry(t, "bench", "--help"), tapestry(t, "__complete", "bench", "")
	if strings.Contains(help.out+complete.out, "agent") || help.code != exit.OK {
		t.Errorf("exit %d; help\n%s\ncompletion\n%s", help.code, help.out, complete.out)
	}
	if r := tapestry(t, "bench", "agent", "--json"); r.code != exit.No || !strings.Contains(r.stderr, "want serve") {
		t.Errorf("an agent without a job: exit %d, %q", r.code, r.stderr)
	}
}

// What a report is written to is written also when the check fails, and then the exit is 1.
func TestBenchDeliver(t *testing.T) {
	r := &bench.Report{Plan: "check", Cases: []bench.Case{{Rung: "one host", Measure: "TCP, 1 flow", Unit: "Gb/s",
		Results: []bench.Result{{Way: "tapestry", Values: []float64{5}, Median: 5}, {Way: "kernel bridge", Values: []float64{10}, Median: 10}},
		Ratios: []bench.Ratio{{Against: "kernel bridge", Values: []float64{0.5}, Median: 0.5, Low: 0.4, High: 0.6, Coverage: 0.96,
			Bound: 0.85, Aim: 1, Verdict: "below"}}}}}
	html := filepath.Join(t.TempDir(), "report.html")
	cmd := newBench(&cli{Client: &client.Client{}})
	var out strings.Builder
	cmd.SetOut(&out)
	err := deliver(cmd, &cli{Client: &client.Client{}}, r, html, "", true)
	if err == nil || !strings.Contains(err.Error(), "one host: TCP, 1 flow: 0.50 of kernel bridge") || exit.Code(err) != exit.No {
		t.Errorf("the check says %v", err)
	}
	if !strings.Contains(out.String(), "ONE HOST\n") {
		t.Errorf("the table is\n%s", out.String())
	}
	if text, err := os.ReadFile(html); err != nil || !strings.Contains(string(text), "<html") {
		t.Errorf("the report in HTML: %v, %d bytes", err, len(text))
	}
}
