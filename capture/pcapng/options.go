package pcapng

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// options iterates over a block's options, or over name records, which have the same format:
//
//	for o.next() { … o.code, o.value … }
//
// An option of a wrong length is ignored, and so is all after one that is longer than the block: no packet is lost because of
// its options.
type options struct {
	code  uint16
	value []byte

	comments []byte // of the comments so far
	rest     []byte
	order    binary.ByteOrder
}

func (r *Reader) options(b []byte) options { return options{rest: b, order: r.order} }

func (o *options) next() bool {
	if len(o.rest) < 4 {
		return false
	}
	code, n := o.order.Uint16(o.rest), int(o.order.Uint16(o.rest[2:]))
	if code == optEnd {
		return false
	}
	if n > len(o.rest)-4 {
		return false
	}
	o.code, o.value = code, o.rest[4:4+n:4+n]
	o.rest = o.rest[4+(n+3)&^3:] // within bounds: a block's length is a multiple of 4
	return true
}

// bytes is the value if it has n bytes, else nil.
func (o *options) bytes(n int) []byte {
	if len(o.value) != n {
		return nil
	}
	return o.value
}

func (o *options) uint32() uint32 {
	if v := o.bytes(4); v != nil {
		return o.order.Uint32(v)
	}
	return 0
}

func (o *options) uint64() uint64 {
	if v := o.bytes(8); v != nil {
		return o.order.Uint64(v)
	}
	return 0
}

// addComment adds the value to the block's comment, as a line.
func (o *options) addComment() {
	if s := text(o.value); s != "" {
		if len(o.comments) > 0 {
			o.comments = append(o.comments, '\n')
		}
		o.comments = append(o.comments, s...)
	}
}

func (o *options) comment() string { return string(o.comments) }

// text is a text up to its first NUL, as a reader in C sees it, made valid UTF-8.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "\ufffd")
}
