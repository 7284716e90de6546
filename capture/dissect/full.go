package dissect

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const (
	maxFull  = 32 << 10 // bytes of a tree
	maxBytes = 32       // bytes of one field, shown in hex
	maxItems = 64       // items of one list
	maxDepth = 6
)

// Full is every layer of a frame with its fields, as a tree for people, with a newline at each line's end and of at
// most 32 KiB. It is gopacket's view, which may differ from a Summary's where a frame is broken.
func Full(frame []byte) string {
	t := &tree{}
	t.frame(frame)
	return t.out.String()
}

// A tree is written line by line. full is set at maxFull bytes: later lines are left out.
type tree struct {
	out  strings.Builder
	full bool
}

func (t *tree) line(depth int, name, value string) {
	if t.full {
		return
	}
	if t.out.Len() > maxFull-512 { // room for one line, and for this one
		t.full = true
		t.out.WriteString(ellipsis + "\n")
		return
	}
	t.out.WriteString(strings.Repeat("    ", depth) + name)
	if value != "" {
		t.out.WriteString(": " + clean(value))
	}
	t.out.WriteByte('\n')
}

// frame contains gopacket, which panics on some frames.
func (t *tree) frame(frame []byte) { t.layers(frame, layers.LayerTypeEthernet) }

func (t *tree) layers(frame []byte, first gopacket.Decoder) {
	defer func() {
		if r := recover(); r != nil {
			t.line(0, "Error", fmt.Sprint(r))
		}
	}()
	p := gopacket.NewPacket(frame, first, gopacket.NoCopy)
	for _, l := range p.Layers() {
		if f, ok := l.(*gopacket.DecodeFailure); ok {
			t.line(0, "Error", f.Error().Error())
			continue
		}
		t.line(0, fmt.Sprintf("%s (%d bytes)", l.LayerType(), len(l.LayerContents())), "")
		t.fields(1, reflect.ValueOf(l).Elem())
	}
}

var baseLayer = reflect.TypeFor[layers.BaseLayer]()

// fields writes the exported fields of a struct, a line each.
func (t *tree) fields(depth int, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		t.value(depth, "Data", v)
		return
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Type != baseLayer {
			t.value(depth, f.Name, v.Field(i))
		}
	}
}

func (t *tree) value(depth int, name string, v reflect.Value) {
	if t.full || empty(v) {
		return
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		t.line(depth, name, s.String())
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if depth < maxDepth {
			t.value(depth, name, v.Elem())
		}
	case reflect.Struct:
		if depth < maxDepth {
			t.line(depth, name, "")
			t.fields(depth+1, v)
		}
	case reflect.Slice, reflect.Array:
		t.list(depth, name, v)
	default:
		t.line(depth, name, fmt.Sprint(v))
	}
}

// empty tells whether a field has nothing to show. Gopacket's DNS answers have room for each kind of data.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice:
		return v.Len() == 0
	case reflect.Pointer, reflect.Interface, reflect.Struct:
		return v.IsZero()
	}
	return false
}

func (t *tree) list(depth int, name string, v reflect.Value) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		t.line(depth, name, octets(v.Bytes()))
		return
	}
	for i := range min(v.Len(), maxItems) {
		t.value(depth, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
	}
	if v.Len() > maxItems {
		t.line(depth, fmt.Sprintf("%s: %d more", name, v.Len()-maxItems), "")
	}
}

// octets shows bytes as text if they are, else in hex.
func octets(b []byte) string {
	switch {
	case len(b) > 0 && plain(string(b)):
		return string(b)
	case len(b) > maxBytes:
		return fmt.Sprintf("%s… (%d bytes)", hex.EncodeToString(b[:maxBytes]), len(b))
	}
	return hex.EncodeToString(b)
}
