package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A record has tcpdump's answers: a line for each pair of frames and expression, with a hash of both and one of the answer.
// Everything is compared with it; tcpdump itself is asked about each sixteenth expression (under -short about each hundredth), and about
// what is not recorded.
const recordFile = "testdata/tcpdump.txt"

const renew = "if that is a newer tcpdump, rm " + recordFile + " and TAPESTRY_RECORD=1 go test ./capture/filter"

type record struct {
	every int // tcpdump is asked again about every so-many-th expression

	mu    sync.Mutex
	said  map[string]string // answer, by key
	asked int
	fresh int // of these, that were not recorded
}

// refusal is the answer of a tcpdump that refuses the expression.
const refusal = "refused"

func hash(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d ", len(p))
		h.Write(p)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:6])
}

func (tr reference) key(expr string) string { return hash(tr.bytes, []byte(expr)) }

// answerOf is the hash of which frames match; nil: the expression is refused.
func answerOf(match []bool) string {
	if match == nil {
		return refusal
	}
	b := make([]byte, len(match))
	for i, m := range match {
		if m {
			b[i] = 1
		}
	}
	return hash(b)
}

func readRecord(t *testing.T) *record {
	t.Helper()
	r := &record{every: 16, said: make(map[string]string)}
	if testing.Short() {
		r.every = 100
	}
	b, err := os.ReadFile(recordFile)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if key, answer, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key != "#" {
			r.said[key] = answer
		}
	}
	return r
}

func (r *record) live(i int) bool { return i%r.every == 0 }

func (r *record) get(key string) (answer string, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, known = r.said[key]
	return answer, known
}

func (r *record) put(key, answer string, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if fresh {
		r.fresh++
		r.said[key] = answer
	}
}

// close writes new answers to the file with TAPESTRY_RECORD=1. Without it there may be none, or the test would become slow again.
func (r *record) close(t *testing.T) {
	t.Helper()
	switch {
	case r.fresh == 0 || os.Getenv("TAPESTRY_SEED") != "" || os.Getenv("TAPESTRY_EXPRS") != "":
		return
	case os.Getenv("TAPESTRY_RECORD") != "1":
		t.Errorf("%s lacks the answer to %d of these expressions: TAPESTRY_RECORD=1 go test ./capture/filter adds it", recordFile, r.fresh)
		return
	}
	version, _ := exec.Command("tcpdump", "--version").CombinedOutput()
	b := new(bytes.Buffer)
	fmt.Fprintf(b, "# What this tcpdump says (see record_test.go): %s\n", strings.Join(strings.Fields(string(version)), " "))
	for _, key := range slices.Sorted(maps.Keys(r.said)) {
		fmt.Fprintf(b, "%s %s\n", key, r.said[key])
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
