package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A truth asks tcpdump.
type truth struct {
	file   string
	frames []captured
	link   int
}

func newTruth(t testing.TB, frames []captured) truth { return linkTruth(t, pcapng.Ethernet, frames) }

func linkTruth(t testing.TB, link int, frames []captured) truth {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		cannot(t, "tcpdump is missing: ", err)
	}
	file := filepath.Join(t.TempDir(), "corpus.pcap")
	if err := os.WriteFile(file, pcap(link, frames), 0o600); err != nil {
		t.Fatal(err)
	}
	return truth{file, frames, link}
}

// ask gives which frames match, or ok = false and the reason if tcpdump refuses the expression.
func (tr truth) ask(expr string) (match []bool, why string, ok bool, err error) {
	in, err := os.Open(tr.file)
	if err != nil {
		return nil, "", false, err
	}
	defer in.Close()
	var out, diag bytes.Buffer
	cmd := exec.Command("tcpdump", "-O", "-n", "-r", "-", "-w", "-", "--", expr)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &diag
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && strings.Contains(diag.String(), "tcpdump: ") {
			return nil, diag.String(), false, nil
		}
		return nil, "", false, fmt.Errorf("%w: %s", err, diag.String())
	}
	match = make([]bool, len(tr.frames))
	for b := out.Bytes()[24:]; len(b) >= 16; {
		match[binary.LittleEndian.Uint32(b)] = true
		b = b[16+binary.LittleEndian.Uint32(b[8:]):]
	}
	return match, "", true, nil
}

// A count is of the expressions that both take, and of those of them that match some frames and not others.
type count struct{ accepted, telling int }

// differ tells how a filter and tcpdump differ, "" if they do not.
func (tr truth) differ(expr string, n *count) (diff string) {
	match, why, ok, err := tr.ask(expr)
	if err != nil {
		return err.Error()
	}
	f, err := CompileFor(tr.link, expr, nil)
	switch {
	case err != nil && !ok:
		return ""
	case err != nil:
		return fmt.Sprintf("refused: %v, but tcpdump takes it", err)
	case !ok:
		return "taken, but tcpdump says " + why
	}
	n.accepted++
	if slices.Contains(match, true) && slices.Contains(match, false) {
		n.telling++
	}
	for i, c := range tr.frames {
		if got := f.Match(c.frame, c.wireLen); got != match[i] {
			return fmt.Sprintf("frame %d (%d of %d bytes) %x: %v, tcpdump says %v", i, len(c.frame), c.wireLen, c.frame, got,
				match[i])
		}
	}
	return ""
}

// check compares expressions with tcpdump, two at a time.
func (tr truth) check(t *testing.T, exprs []string) count {
	var wg sync.WaitGroup
	var n [2]count
	for half := range n {
		wg.Go(func() {
			for i := half; i < len(exprs); i += 2 {
				if diff := tr.differ(exprs[i], &n[half]); diff != "" {
					t.Errorf("%q: %s", exprs[i], diff)
				}
			}
		})
	}
	wg.Wait()
	sum := count{n[0].accepted + n[1].accepted, n[0].telling + n[1].telling}
	t.Logf("%d expressions, %d valid, %d match some frames and not others", len(exprs), sum.accepted, sum.telling)
	return sum
}

// seed is fixed, so that a failure comes again; TAPESTRY_SEED gives another.
func seed(t testing.TB) uint64 {
	s := uint64(1)
	if v := os.Getenv("TAPESTRY_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal("TAPESTRY_SEED: want a number: ", err)
		}
		s = n
	}
	t.Logf("TAPESTRY_SEED=%d", s)
	return s
}

// tries is how many expressions to try; TAPESTRY_EXPRS gives another number.
func tries(t testing.TB) int {
	v := os.Getenv("TAPESTRY_EXPRS")
	if v == "" {
		return 2000
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal("TAPESTRY_EXPRS: want a number: ", err)
	}
	return n
}

func TestRandomAgainstTcpdump(t *testing.T) {
	s := seed(t)
	tr := newTruth(t, corpus(s, 450))
	g := generator{rand.New(rand.NewPCG(s, 2))}
	exprs := make([]string, tries(t))
	for i := range exprs {
		exprs[i] = g.expr(g.IntN(5))
	}
	if n := tr.check(t, exprs); n.accepted < len(exprs)*3/4 || n.telling < len(exprs)/2 {
		t.Error("too few expressions are valid and telling: the test says little")
	}
}

var apart = strings.NewReplacer("(", " ( ", ")", " ) ", "[", " [ ", "]", " ] ")

// Expressions with words missing, doubled or swapped: both take or both refuse them.
func TestBrokenAgainstTcpdump(t *testing.T) {
	s := seed(t)
	tr := newTruth(t, corpus(s, 50))
	g := generator{rand.New(rand.NewPCG(s, 3))}
	var exprs []string
	for len(exprs) < 400 {
		words := strings.Fields(apart.Replace(g.expr(g.IntN(3))))
		i, j := g.IntN(len(words)), g.IntN(len(words))
		switch g.IntN(3) {
		case 0:
			words = append(words[:i], words[i+1:]...)
		case 1:
			words[i], words[j] = words[j], words[i]
		case 2:
			words = append(words[:i], append([]string{words[j]}, words[i:]...)...)
		}
		expr := strings.Join(words, " ")
		if namesHost(expr) {
			continue // tcpdump would ask the DNS
		}
		exprs = append(exprs, expr)
	}
	if n := tr.check(t, exprs); n.accepted < 40 || n.accepted > 360 {
		t.Error("too few expressions are valid, or are not: the test says little")
	}
}

// namesHost tells if an expression has a host or network by name.
func namesHost(expr string) bool {
	asked := false
	_, err := Compile(expr, func(string) []netip.Addr { asked = true; return nil })
	var e *SyntaxError
	return asked || errors.As(err, &e) &&
		(strings.Contains(e.Why, "is no network") || strings.Contains(e.Why, "is no Ethernet address"))
}

func TestKnownAgainstTcpdump(t *testing.T) {
	tr := newTruth(t, corpus(7, 450))
	if n := tr.check(t, known); n.accepted < len(known)/3 {
		t.Error("too few expressions are valid: the test says little")
	}
}
