package filter

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// A token is a word of an expression.
type token struct {
	kind tokenKind
	text string // as written, keywords by their main name
	pos  int
	num  uint32
}

type tokenKind uint8

const (
	tokEnd         tokenKind = iota
	tokWord                  // a keyword, or a sign such as "["
	tokProto                 // a protocol's name
	tokName                  // any other name
	tokNumber                // num
	tokDotted                // 10.1 to 10.1.2.3
	tokIPv6                  //
	tokMAC                   //
	tokUnsupported           // a keyword of libpcap for something that does not exist here
)

// maxExpr bounds an expression, in bytes.
const maxExpr = 16 << 10

type lexer struct {
	expr string
	tok  token // read last
	end  int   // of tok
}

// The longest match counts, as in libpcap: 5-3 is a name, and 001122334455 an Ethernet address.
var (
	numberRE = longest(`(0[xX][0-9A-Fa-f]+|[0-9]+)`)
	dottedRE = longest(`N(\.N){1,3}`)
	macRE    = longest(`B(:B){5}|B(-B){5}|B(\.B){5}|Q\.Q\.Q|QQQ`)
	ipv6RE   = longest(ipv6Shapes())
	colonsRE = longest(`B:+(B:+)+`)
)

func longest(re string) *regexp.Regexp {
	re = strings.NewReplacer("N", `(0[xX][0-9A-Fa-f]+|[0-9]+)`, "B", `[0-9A-Fa-f]{1,2}`, "Q", `[0-9A-Fa-f]{4}`,
		"W", `[0-9A-Fa-f]{1,4}`).Replace(re)
	r := regexp.MustCompile(`^(` + re + `)`)
	r.Longest()
	return r
}

// ipv6Shapes lists the ways to write an address: with a gap before, between or behind the words or with none, and with
// an IPv4 address at the end. RFC 4291 section 2.2.
func ipv6Shapes() string {
	words := func(n int) string { return strings.TrimSuffix(strings.Repeat("W:", n), ":") }
	shapes := []string{words(8), words(6) + `:N\.N\.N\.N`}
	for n := 0; n <= 7; n++ {
		for gap := 0; gap <= n; gap++ {
			shapes = append(shapes, words(gap)+"::"+words(n-gap))
			if n <= 5 {
				tail := strings.Repeat("W:", n-gap)
				shapes = append(shapes, words(gap)+"::"+tail+`N\.N\.N\.N`)
			}
		}
	}
	return strings.Join(shapes, "|")
}

// next reads a token.
func (p *parser) next() {
	rest := strings.TrimLeft(p.expr[p.end:], " \t\r\n")
	p.tok = token{pos: len(p.expr) - len(rest)}
	p.end = p.tok.pos
	if rest == "" {
		return
	}
	n := p.name(rest)
	if hexDigit(rest[0]) || rest[0] == ':' {
		n = max(n, p.number(rest, n))
	}
	if n == 0 {
		n = p.sign(rest)
	}
	p.end += n
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func letterDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// name reads a keyword or a name, and gives its length, 0 if there is none.
func (p *parser) name(rest string) int {
	if rest[0] == '\\' {
		n := strings.IndexAny(rest, " !()\n\t")
		if n < 0 {
			n = len(rest)
		}
		if n > 1 {
			p.tok.kind, p.tok.text = tokName, rest[1:n]
		}
		return n * min(1, n-1)
	}
	if !letterDigit(rest[0]) {
		return 0
	}
	n := 1
	for i := 1; i < len(rest) && (letterDigit(rest[i]) || strings.IndexByte("-_.@", rest[i]) >= 0); i++ {
		if strings.IndexByte("-_@", rest[i]) < 0 {
			n = i + 1
		}
	}
	p.tok.kind, p.tok.text = tokName, rest[:n]
	word := rest[:n]
	if main, ok := aliases[word]; ok {
		word = main
	}
	switch _, isProto := protos[word]; {
	case isProto:
		p.tok.kind, p.tok.text = tokProto, word
	case keywords[word]:
		p.tok.kind, p.tok.text = tokWord, word
	case unsupported[word] != "":
		p.tok.kind = tokUnsupported
	default:
		if num, ok := constants[word]; ok {
			p.tok.kind, p.tok.num = tokNumber, num
		}
	}
	return n
}

// number reads a number or an address that is longer than the name of n bytes at the same place, or as long if that is
// no keyword, and gives the length of what is there.
func (p *parser) number(rest string, n int) int {
	found := tokWord
	for _, c := range []struct {
		re   *regexp.Regexp
		kind tokenKind
	}{{macRE, tokMAC}, {numberRE, tokNumber}, {dottedRE, tokDotted}, {ipv6RE, tokIPv6}, {colonsRE, tokEnd}} {
		if m := len(c.re.FindString(rest)); m > n || m == n && p.tok.kind == tokName {
			n, found = m, c.kind
			p.tok.kind, p.tok.text = c.kind, rest[:m]
		}
	}
	switch found {
	case tokNumber:
		v, err := strconv.ParseUint(p.tok.text, 0, 32)
		if err != nil {
			p.fail(p.tok, "%s is no number of 32 bits (a leading 0 makes it octal)", p.tok.text)
		}
		p.tok.num = uint32(v)
	case tokIPv6:
		if _, err := netip.ParseAddr(p.tok.text); err != nil {
			p.fail(p.tok, "%s is no IPv6 address", p.tok.text)
		}
	case tokEnd:
		p.fail(p.tok, "%s is no Ethernet address: want six bytes, as 02:42:0a:4d:00:02", p.tok.text)
	}
	return n
}

// sign reads anything else and gives its length.
func (p *parser) sign(rest string) int {
	n := 1
	if len(rest) > 1 {
		switch rest[:2] {
		case "&&", "||", ">=", "<=", "!=", "==", "<<", ">>":
			n = 2
		}
	}
	p.tok.kind, p.tok.text = tokWord, rest[:n]
	if main, ok := aliases[p.tok.text]; ok {
		p.tok.text = main
	}
	if n == 1 && strings.IndexByte("+-*/%:[]!<>()&|^=", rest[0]) < 0 {
		if rest[0] == ',' {
			p.fail(p.tok, "',' has no meaning here: join terms with or, as in port 80 or 443")
		}
		p.fail(p.tok, "%q has no meaning here", []rune(rest)[0])
	}
	return n
}
