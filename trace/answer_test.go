package trace

import (
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/docker"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// What is said of questions that the switch answers itself, or does not.
func TestAnswerText(t *testing.T) {
	d := &docker.Engine{}
	for found, want := range map[string]string{
		"told":      "10.50.0.5 is 02:42:0a:32:00:05, says host n2 (192.0.2.2): answered to web at once",
		"unknown":   "no other host of the cluster says that it has 10.50.0.5",
		"down":      "host n2 (192.0.2.2) says that it has 10.50.0.5, and is gone",
		"elsewhere": "but frames to 02:42:0a:32:00:05 go to 192.0.2.3",
		"again":     "was answered in the last minute",
	} {
		r := api.Trace{In: api.TracePort{Port: "web"}, Verdict: "flooded", Steps: []api.TraceStep{
			{Check: "destination", Found: "group", MAC: "ff:ff:ff:ff:ff:ff"},
			{Check: "answer", Found: found, MAC: "02:42:0a:32:00:05", Address: "10.50.0.5", Why: "n2 (192.0.2.2)", Port: "192.0.2.3"}}}
		toAll := "ff:ff:ff:ff:ff:ff is a group address: to all ports"
		if found == "told" {
			r.Verdict, toAll = "answered", "ff:ff:ff:ff:ff:ff is a group address\n"
		}
		var out strings.Builder
		if err := Print(&out, r, d); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, want) || !strings.Contains(got, toAll) || strings.Contains(got, "answered by tapestry") != (found == "told") {
			t.Errorf("%s: %s", found, got)
		}
		if Delivered(r) != (found == "told") || found == "told" && Outcome(r) != "would be answered by tapestry" {
			t.Errorf("%s: %v, %s", found, Delivered(r), Outcome(r))
		}
	}
	lost := api.Trace{In: api.TracePort{Faults: "loss 100%"}, Verdict: "answered"}
	if Delivered(lost) {
		t.Error("delivered through a loss of 100%")
	}
	s := SeenFrame{Trace: &api.Trace{Verdict: "flooded"}}
	s.setNote(capture.Detail{Verdict: vswitch.Answered}, "", d)
	if s.Differs || !strings.Contains(s.Note, "answered by tapestry") {
		t.Errorf("%+v", s)
	}
}
