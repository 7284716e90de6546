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
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A reference is frames, and what tcpdump says of them. Its answers were recorded, since a process for each expression takes minutes:
// record_test.go.
type reference struct {
	bytes  []byte // of the frames' file
	frames []captured
	link   int
}

func newReference(frames []captured) reference { return linkReference(pcapng.Ethernet, frames) }

func linkReference(link int, frames []captured) reference {
	return reference{pcap(link, frames), frames, link}
}

// ask asks tcpdump which frames match; ok is false, with the reason in why, if tcpdump refuses the expression.
func (tr reference) ask(expr string) (match []bool, why string, ok bool, err error) {
	var out, diag bytes.Buffer
	cmd := exec.Command("tcpdump", "-O", "-n", "-r", "-", "-w", "-", "--", expr)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(tr.bytes), &out, &diag
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

// ours returns which frames match here; nil and the reason if the expression is refused.
func (tr reference) ours(expr string) (match []bool, why error) {
	f, err := CompileFor(tr.link, expr, nil)
	if err != nil {
		return nil, err
	}
	match = make([]bool, len(tr.frames))
	for i, c := range tr.frames {
		match[i] = f.Match(c.frame, c.wireLen)
	}
	return match, nil
}

// A count is of the expressions that both accept, and of those of them that match some frames and not others.
type count struct{ accepted, telling int }

// differ says how a filter and tcpdump differ; "": they agree. With live tcpdump is asked, whatever is recorded.
func (tr reference) differ(expr string, live bool, r *record, n *count) (diff string) {
	got, refused := tr.ours(expr)
	if refused == nil {
		n.accepted++
		if slices.Contains(got, true) && slices.Contains(got, false) {
			n.telling++
		}
	}
	key := tr.key(expr)
	was, known := r.get(key)
	if known && !live && was == answerOf(got) {
		return ""
	}
	if _, err := exec.LookPath("tcpdump"); err != nil && known {
		if was == answerOf(got) {
			return ""
		}
		return fmt.Sprintf("tcpdump was recorded to say otherwise (its answer was %s); without tcpdump there is no more to say", was)
	}
	match, why, ok, err := tr.ask(expr)
	if errors.Is(err, exec.ErrNotFound) {
		return "" // check gives it up
	}
	if err != nil {
		return err.Error()
	}
	r.put(key, answerOf(match), !known)
	switch {
	case refused != nil && ok:
		return fmt.Sprintf("refused: %v, but tcpdump accepts it", refused)
	case refused == nil && !ok:
		return "accepted, but tcpdump says " + why
	}
	for i, c := range tr.frames {
		if refused == nil && got[i] != match[i] {
			return fmt.Sprintf("frame %d (%d of %d bytes) %x: %v, tcpdump says %v", i, len(c.frame), c.wireLen, c.frame, got[i], match[i])
		}
	}
	if known && was != answerOf(match) {
		return "tcpdump says what it says here, but was recorded to say otherwise: " + renew
	}
	return ""
}

// check compares expressions with tcpdump, two at a time: all of them with the recorded answers, and some with what tcpdump says now.
func (tr reference) check(t *testing.T, exprs []string) count {
	r := readRecord(t)
	var wg sync.WaitGroup
	var n [2]count
	for half := range n {
		wg.Go(func() {
			for i := half; i < len(exprs); i += 2 {
				if diff := tr.differ(exprs[i], r.live(i), r, &n[half]); diff != "" {
					t.Errorf("%q: %s", exprs[i], diff)
				}
			}
		})
	}
	wg.Wait()
	sum := count{n[0].accepted + n[1].accepted, n[0].telling + n[1].telling}
	t.Logf("%d expressions, %d valid, %d match some frames and not others; tcpdump was asked about %d", len(exprs), sum.accepted, sum.telling, r.asked)
	r.close(t)
	if _, err := exec.LookPath("tcpdump"); err != nil {
		testhost.Cannot(t, "tcpdump is missing, all was compared with what was recorded only: ", err)
	}
	return sum
}

// seed is fixed, so that a failure is repeatable; TAPESTRY_SEED sets another.
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

// tries is how many expressions to try; TAPESTRY_EXPRS sets another number.
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
	tr := newReference(corpus(s, 450))
	g := generator{rand.New(rand.NewPCG(s, 2))}
	exprs := make([]string, tries(t))
	for i := range exprs {
		exprs[i] = g.expr(g.IntN(5))
	}
	if n := tr.check(t, exprs); n.accepted < len(exprs)*3/4 || n.telling < len(exprs)/2 {
		t.Error("too few expressions are valid and match some frames only: the test shows little")
	}
}

var apart = strings.NewReplacer("(", " ( ", ")", " ) ", "[", " [ ", "]", " ] ")

// Expressions with words missing, doubled or swapped: both accept or both refuse them.
func TestBrokenAgainstTcpdump(t *testing.T) {
	s := seed(t)
	tr := newReference(corpus(s, 50))
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
		t.Error("too few expressions are valid, or too few are invalid: the test shows little")
	}
}

// namesHost tells whether an expression has a host or network by name.
func namesHost(expr string) bool {
	asked := false
	_, err := Compile(expr, func(string) []netip.Addr { asked = true; return nil })
	var e *SyntaxError
	return asked || errors.As(err, &e) &&
		(strings.Contains(e.Why, "is no network") || strings.Contains(e.Why, "is no Ethernet address"))
}

func TestKnownAgainstTcpdump(t *testing.T) {
	tr := newReference(corpus(7, 450))
	if n := tr.check(t, known); n.accepted < len(known)/3 {
		t.Error("too few expressions are valid: the test shows little")
	}
}
