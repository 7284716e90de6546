package pcapng

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

var le = binary.LittleEndian

// beginBlock appends the beginning of a block; endBlock sets its length.
func beginBlock(b []byte, kind uint32) (block []byte, start int) {
	start = len(b)
	b = le.AppendUint32(b, kind)
	return le.AppendUint32(b, 0), start
}

// endBlock ends the block that begins at start. What stands from options on are its options.
func endBlock(b []byte, start, options int) []byte {
	if len(b) > options {
		b = appendOptionHeader(b, optEnd, 0)
	}
	n := uint32(len(b) - start + 4)
	le.PutUint32(b[start+4:], n)
	return le.AppendUint32(b, n)
}

// beginOption appends the beginning of an option, or of a name record, whose value begins at at; endOption sets its length.
func beginOption(b []byte, code uint16) (option []byte, at int) {
	b = appendOptionHeader(b, code, 0)
	return b, len(b)
}

func endOption(b []byte, at int) []byte {
	n := len(b) - at
	le.PutUint16(b[at-2:], uint16(n))
	return pad(b, n)
}

// appendOptionHeader appends the header of an option whose value has n bytes.
func appendOptionHeader(b []byte, code, n uint16) []byte {
	return le.AppendUint32(b, uint32(n)<<16|uint32(code))
}

func appendBytes(b []byte, code uint16, value []byte) []byte {
	return pad(append(appendOptionHeader(b, code, uint16(len(value))), value...), len(value))
}

// appendString appends a text option, none if the text is empty.
func appendString(b []byte, code uint16, s string) []byte {
	if s == "" {
		return b
	}
	b, at := beginOption(b, code)
	return endOption(appendText(b, s, math.MaxUint16), at)
}

// appendText appends at most limit bytes of s, without cutting a rune. NUL is replaced, since readers in C end a text there,
// and so is what is not UTF-8, since the format demands that.
func appendText(b []byte, s string, limit int) []byte {
	if len(s) <= limit && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return append(b, s...)
	}
	limit += len(b)
	for _, r := range s {
		if r == 0 {
			r = utf8.RuneError
		}
		if len(b)+utf8.RuneLen(r) > limit {
			break
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// appendTime appends a time of an interface with if_tsresol 9, the upper half first.
func appendTime(b []byte, ns int64) []byte {
	b = le.AppendUint32(b, uint32(ns>>32))
	return le.AppendUint32(b, uint32(ns))
}

// pad appends zeros after a value of n bytes, up to a multiple of 32 bits.
func pad(b []byte, n int) []byte {
	var zero [3]byte
	return append(b, zero[:-n&3]...)
}
