package dissect

import (
	"net/netip"
	"strconv"
)

const (
	dnsLen     = 12
	maxAnswers = 4
	maxName    = 255 // bytes of a name (RFC 1035 §2.3.4)
	maxHops    = 16  // compression pointers followed in one name; valid names have a few
)

var dnsTypes = map[int]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
	35: "NAPTR", 39: "DNAME", 41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS",
	251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}

var rcodes = [16]string{
	"", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
	"DSOTYPENI", "RCODE 12", "RCODE 13", "RCODE 14", "RCODE 15",
}

func dnsType(n int) string {
	if name, ok := dnsTypes[n]; ok {
		return name
	}
	return "TYPE" + strconv.Itoa(n) // RFC 3597 §5
}

// parseDNS reads the first question and the first answers of a DNS message; nil if it has neither.
func parseDNS(msg []byte) *DNS {
	if len(msg) < dnsLen {
		return nil
	}
	d := &DNS{ID: be16(msg), Response: msg[2]&0x80 != 0, RCode: msg[3] & 15}
	at, questions, answers := dnsLen, be16(msg[4:]), be16(msg[6:])
	d.Count = answers
	for i := range questions {
		name, next, ok := dnsName(msg, at)
		if !ok || next+4 > len(msg) {
			return d.orNil()
		}
		if i == 0 {
			d.Name, d.Type = name, dnsType(int(be16(msg[next:])))
		}
		at = next + 4
	}
	for answers > 0 && len(d.Answers) < maxAnswers {
		answers--
		name, next, ok := dnsName(msg, at)
		if !ok || next+10 > len(msg) {
			break
		}
		kind, n := int(be16(msg[next:])), int(be16(msg[next+8:]))
		data := next + 10
		if data+n > len(msg) {
			break
		}
		if d.Name == "" {
			d.Name, d.Type = name, dnsType(kind)
		}
		if a := answer(msg[:data+n], data, kind); a != "" {
			d.Answers = append(d.Answers, a)
		}
		at = data + n
	}
	return d.orNil()
}

func (d *DNS) orNil() *DNS {
	if d.Name == "" {
		return nil
	}
	return d
}

// answer is the address or the name in the data of a record, which reach from at to the end of msg; "" if it has none.
func answer(msg []byte, at, kind int) string {
	switch data := msg[at:]; dnsTypes[kind] {
	case "A", "AAAA":
		if a, ok := netip.AddrFromSlice(data); ok {
			return a.String()
		}
	case "CNAME", "PTR", "NS", "DNAME":
		name, _, _ := dnsName(msg, at)
		return name
	case "SRV":
		if len(data) > 6 {
			name, _, _ := dnsName(msg, at+6)
			return name + ":" + strconv.Itoa(int(be16(data[4:])))
		}
	}
	return ""
}

// dnsName reads the name at msg[at:] (RFC 1035 §4.1.4) and gives it clean, with the offset of what follows it.
func dnsName(msg []byte, at int) (name string, next int, ok bool) {
	b := make([]byte, 0, 64)
	for hops := 0; at < len(msg); {
		n := int(msg[at])
		switch {
		case n == 0:
			if hops == 0 {
				next = at + 1
			}
			if len(b) == 0 {
				return ".", next, true
			}
			return clean(string(b)), next, true
		case n >= 0xc0 && at+1 < len(msg) && hops < maxHops:
			if hops++; hops == 1 {
				next = at + 2
			}
			at = int(be16(msg[at:]) & 0x3fff)
		case n < 0x40 && at+1+n <= len(msg) && len(b)+1+n <= maxName:
			if len(b) > 0 {
				b = append(b, '.')
			}
			b = append(b, msg[at+1:at+1+n]...)
			at += 1 + n
		default:
			return "", 0, false
		}
	}
	return "", 0, false
}
