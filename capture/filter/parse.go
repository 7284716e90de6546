package filter

// maxDepth bounds parentheses and "not" within each other.
const maxDepth = 200

// A qualifier is what stands before an address, port or protocol, and holds for those after "and" and "or" too.
type qualifier struct {
	given  bool
	proto  string // a key of protos, "" for any
	dir    string // "", "src", "dst", "src or dst", "src and dst"
	what   string // "", "host", "net", "port", "portrange", "proto"
	direct bool   // it stands right before: a number is no arithmetic then
}

type parser struct {
	lexer
	names Names
	plain bool // no hints: this is one
	at    offsets

	tunnels []offsets // where the vxlan words read so far have looked

	depth int
	regs  int // of the 16 that libpcap has for arithmetic
}

// An item is a part of an expression. The grammar cannot tell beforehand which kind follows a parenthesis.
type item struct {
	kind itemKind
	node *node
	q    qualifier
	num  token
	a    *arith
}

type itemKind uint8

const (
	isTerm   itemKind = iota
	isID              // an address, port or protocol whose qualifier stood earlier
	isNumber          // an isID or the begin of arithmetic, the next word tells
	isArith           // arithmetic that is not compared yet
)

// filter reads a whole expression; nil is the empty one.
func (p *parser) filter() *node {
	if len(p.expr) > maxExpr {
		p.fail(token{text: p.expr}, "the expression has %d bytes, %d are allowed", len(p.expr), maxExpr)
	}
	p.next()
	if p.tok.kind == tokEnd {
		return nil
	}
	it := p.list(qualifier{}, "the end")
	if p.tok.kind != tokEnd {
		p.want("and", "or", "the end")
	}
	return p.node(it)
}

// list reads items with "and" and "or" between, up to end. A number or arithmetic alone comes back unchanged.
func (p *parser) list(q qualifier, end string) item {
	start := p.tok
	first := p.item(q)
	if !p.is("and") && !p.is("or") {
		return first
	}
	n := p.node(first)
	onlyIDs := first.kind != isTerm
	if onlyIDs && !q.given {
		p.fail(start, "want host, net, port or another word before %s", start.text)
	}
	for q = first.q; p.is("and") || p.is("or"); {
		join := and
		if p.is("or") {
			join = or
		}
		p.next()
		at := p.tok
		it := p.item(q)
		m := p.node(it)
		if onlyIDs && it.kind == isTerm {
			p.fail(at, "%s cannot be mixed with addresses or numbers in one pair of parentheses", at.text)
		}
		n, q = join(n, m), it.q
		n.framed = true // its parts are
	}
	if p.tok.kind != tokEnd && !p.is(")") {
		p.want("and", "or", end)
	}
	kind := isTerm
	if onlyIDs {
		kind = isID
	}
	return item{kind: kind, node: n, q: q}
}

// node makes a test of the item read last.
func (p *parser) node(it item) *node {
	switch it.kind {
	case isNumber:
		it.node = p.number32(it.num, it.q)
	case isArith:
		p.want("a comparison", "an operator")
	}
	return p.inInnerFrame(it.node)
}

func (p *parser) is(word string) bool { return p.tok.kind == tokWord && p.tok.text == word }

// take reads a word if it is next.
func (p *parser) take(word string) bool {
	if !p.is(word) {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(word string) {
	if !p.take(word) {
		p.want(word)
	}
}

func (p *parser) nest() {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.tok, "more than %d parentheses, signs and nots within each other", maxDepth)
	}
}

// item reads one item; q is the qualifier for an address without its own.
func (p *parser) item(q qualifier) item {
	p.nest()
	defer func() { p.depth-- }()
	start := p.tok
	switch {
	case p.take("!"):
		it := p.item(q)
		n := p.node(it)
		if it.kind == isNumber {
			it.kind = isID
		}
		n = not(n)
		n.framed = true
		return item{kind: it.kind, node: n, q: it.q}
	case p.take("("):
		return p.parenthesized(q)
	case start.kind == tokNumber:
		p.next()
		if q.direct {
			p.notArithmetic(start, q)
			return item{kind: isNumber, num: start, q: q}
		}
		return p.compare(item{kind: isNumber, num: start, q: q})
	case p.is("len") || p.is("-"):
		return p.compare(item{kind: isArith, a: p.operand()})
	case start.kind == tokProto:
		p.next()
		return p.protocol(start)
	case start.kind == tokWord:
		return p.keyword("")
	case start.kind == tokUnsupported:
		if n := p.cookedOnly(start); n != nil {
			p.next()
			return item{node: n}
		}
	case q.given && (start.kind == tokName || start.kind == tokDotted || start.kind == tokIPv6 || start.kind == tokMAC):
		return item{kind: isID, node: p.id(q), q: q}
	}
	p.unexpected()
	return item{}
}

// parenthesized reads what follows "(".
func (p *parser) parenthesized(q qualifier) item {
	it := p.list(q, ")")
	if !p.take(")") {
		p.want("and", "or", ")")
	}
	if it.kind == isNumber || it.kind == isArith {
		return p.compare(it)
	}
	it.q = q
	return it
}

// unexpected says that nothing begins like the word read last.
func (p *parser) unexpected() {
	p.rejectUnsupported()
	p.want("host", "net", "port", "src", "dst", "a protocol", "a comparison", "not", "(")
}

func (p *parser) rejectUnsupported() {
	if p.tok.kind == tokUnsupported {
		p.fail(p.tok, unsupported[p.tok.text], p.tok.text)
	}
}

// protocol reads what follows a protocol's name.
func (p *parser) protocol(name token) item {
	switch {
	case p.is("["):
		return p.compare(item{kind: isArith, a: p.load(name)})
	case p.tok.kind == tokEnd || p.is("and") || p.is("or") || p.is(")"):
		if name.text == "ether" {
			p.want("host", "src", "dst", "proto", "broadcast", "multicast", "[")
		}
		return item{node: p.abbreviation(name)}
	}
	return p.keyword(name.text)
}

// keyword reads a term that begins with a keyword; proto stood before it.
func (p *parser) keyword(proto string) item {
	start := p.tok
	switch {
	case p.take("broadcast"):
		return item{node: p.broadcast(start, proto)}
	case p.take("multicast"):
		return item{node: p.multicast(start, proto)}
	case p.is("src"), p.is("dst"), p.is("host"), p.is("net"), p.is("port"), p.is("portrange"), p.is("proto"):
		return p.qualified(proto)
	case proto != "":
		p.rejectUnsupported()
		if (start.kind == tokDotted || start.kind == tokIPv6) && protos[proto].numbers != nil {
			p.failWithHint(start, proto+" and host "+start.text, "want and between a protocol and an address")
		}
		p.want("port", "portrange", "host", "net", "src", "dst", "proto", "[", "and", "or", "the end")
	case p.take("less"):
		return item{node: not(test(loadLen, 0, greater, p.literal()))}
	case p.take("greater"):
		return item{node: test(loadLen, 0, atLeast, p.literal())}
	case p.take("vlan"):
		return item{node: p.vlan(start, p.optional())}
	case p.take("mpls"):
		return item{node: p.mpls(start, p.optional())}
	case p.take("vxlan"):
		return item{node: p.vxlan(start, p.optional())}
	case p.take("pppoed"):
		return item{node: p.linkType(start, typePPPoED)}
	case p.take("llc"):
		return item{node: p.llc(start)}
	}
	p.unexpected()
	return item{}
}

// qualified reads a qualifier and what it is for.
func (p *parser) qualified(proto string) item {
	q := qualifier{given: true, proto: proto}
	if p.is("src") || p.is("dst") {
		q.dir = p.tok.text
		other := map[string]string{"src": "dst", "dst": "src"}[q.dir]
		p.next()
		if p.is("or") || p.is("and") {
			q.dir = "src " + p.tok.text + " dst"
			p.next()
			p.expect(other)
		}
	}
	what := set("host", "net", "port", "portrange")
	if q.dir == "" {
		what["proto"] = true
	}
	if p.tok.kind == tokWord && what[p.tok.text] {
		q.what = p.tok.text
		p.next()
	}
	start := p.tok
	switch {
	case p.comparison() != "":
		p.compared(q)
	case start.kind == tokEnd, start.kind == tokProto, start.kind == tokWord && !p.is("(") && !p.is("!"):
		p.want(wanted(q.what))
	}
	q.direct = true
	it := p.item(q)
	q.direct, it.q.direct = false, false
	if it.kind != isNumber && it.kind != isID {
		p.fail(start, "want %s, not %s", wanted(q.what), start.text)
	}
	return item{node: p.node(it), q: it.q}
}

func wanted(what string) string {
	switch what {
	case "port":
		return "a port's number or name"
	case "portrange":
		return "two ports, as 80-90"
	case "proto":
		return `a protocol's number or name (keywords as \tcp)`
	case "net":
		return "a network, as 10.1.0.0/16"
	}
	return "an address or a name"
}

// literal reads a number.
func (p *parser) literal() uint32 {
	if p.tok.kind != tokNumber {
		p.want("a number")
	}
	v := p.tok.num
	p.next()
	return v
}

// optional reads a number, perhaps in parentheses, if one follows.
func (p *parser) optional() *token {
	n := 0
	for p.take("(") {
		if n++; n > maxDepth {
			p.fail(p.tok, "more than %d parentheses", maxDepth)
		}
	}
	if n == 0 && p.tok.kind != tokNumber {
		return nil
	}
	t := p.tok
	p.literal()
	for range n {
		p.expect(")")
	}
	return &t
}
