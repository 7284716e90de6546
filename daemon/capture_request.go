package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// captureSpec is a CaptureRequest that was understood.
type captureSpec struct {
	api.CaptureRequest
	encode  capture.EncoderOptions
	targets capture.Targets
	match   capture.Match

	network, endpoint string // of a container that it is armed for; "": of none
}

// parseRequest reads a request for a capture or a dump.
func parseRequest(w http.ResponseWriter, r *http.Request) (*captureSpec, error) {
	a := &captureSpec{}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20))
	d.DisallowUnknownFields()
	err := d.Decode(&a.CaptureRequest)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	a.encode = capture.EncoderOptions{Detail: a.Detail || a.Format == "ndjson", Snap: a.Snap, Filter: a.Filter.Expr}
	if a.encode.Mode, err = capture.ParseMode(cmp.Or(a.Offload, "fix")); err != nil {
		return nil, err
	}
	if a.encode.Point, err = capture.ParsePoint(cmp.Or(a.Point, "once")); err != nil {
		return nil, err
	}
	if a.encode.View, err = capture.ParseView(cmp.Or(a.View, "inner")); err != nil {
		return nil, err
	}
	if a.encode.Annotate, err = capture.ParseAnnotate(cmp.Or(a.Annotate, "drops")); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "pcapng", "ndjson"}, a.Format) {
		return nil, fmt.Errorf("format %q: want pcapng or ndjson", a.Format)
	}
	if a.Snap < 0 || a.Snap > pcapng.MaxSnapLen {
		return nil, fmt.Errorf("snap %d: want 1 to %d bytes of each frame, or 0 for all", a.Snap, pcapng.MaxSnapLen)
	}
	if a.Ring < 0 || a.Ring > api.MaxRing || a.Ring&(a.Ring-1) != 0 || a.Ring > 0 && a.Ring < api.MinRing {
		return nil, fmt.Errorf("ring %d: want a power of two from 256 KiB to 256 MiB, or 0", a.Ring)
	}
	if a.Headers && a.encode.Mode == capture.Segment && r.URL.Path == api.CapturesPath {
		return nil, errors.New("headers and offload segment: want one of them, what is cut must be whole")
	}
	if a.match, err = compileFilter(&a.Filter); err != nil {
		return nil, err
	}
	if a.targets, err = parseTargets(&a.Targets); err != nil {
		return nil, err
	}
	if a.Attach != "" && (a.match != nil || a.targets.Some || a.Drops || a.Headers || a.Ring != 0) {
		return nil, errors.New("attach: that capture has its targets and its filter, and keeps whole frames")
	}
	return a, nil
}

// compileFilter makes a Match of the expression; nil if there is none.
func compileFilter(f *api.Filter) (capture.Match, error) {
	if strings.TrimSpace(f.Expr) == "" {
		return nil, nil
	}
	names := make(map[string][]netip.Addr)
	if len(f.Names) > maxAddrs {
		return nil, fmt.Errorf("%d names for the filter: want %d at most", len(f.Names), maxAddrs)
	}
	for name, all := range f.Names {
		for _, text := range all {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("the address of %q: %w", name, err)
			}
			names[name] = append(names[name], a)
		}
	}
	addrs := 0 // each is looked for in every frame
	compiled, err := filter.Compile(f.Expr, func(name string) []netip.Addr {
		if addrs += len(names[name]); addrs > maxAddrs {
			return nil
		}
		return names[name]
	})
	if addrs > maxAddrs {
		return nil, fmt.Errorf("the names in the filter stand for %d addresses: want %d at most", addrs, maxAddrs)
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", f.Expr, err)
	}
	return compiled.Match, nil
}

// parseTargets is the targets as the hub has them.
func parseTargets(t *api.Targets) (capture.Targets, error) {
	var behind []capture.Behind
	if len(t.Behind) > api.MaxBehind {
		return capture.Targets{}, fmt.Errorf("%d containers on other hosts: want %d at most", len(t.Behind), api.MaxBehind)
	}
	for _, b := range t.Behind {
		match, err := compileFilter(&api.Filter{Expr: b.Expr})
		if err == nil && match == nil {
			err = errors.New("want which frames")
		}
		if err != nil {
			return capture.Targets{}, fmt.Errorf("a container behind %s: %w", b.Peer, err)
		}
		behind = append(behind, capture.Behind{Network: b.Network, Peer: b.Peer, Match: match})
	}
	set := func(all []string) map[string]bool {
		m := make(map[string]bool, len(all))
		for _, x := range all {
			m[x] = true
		}
		return m
	}
	return capture.Targets{Some: areSome(t),
		Endpoints: set(t.Endpoints), Networks: set(t.Networks), Peers: set(t.Peers), Sandboxes: set(t.Sandboxes), StartedAt: t.CreatedAt,
		New: t.New, Since: t.Since, Behind: behind}, nil
}

// areSome tells whether only some ports are targets.
func areSome(t *api.Targets) bool {
	return t.Some || t.New || t.Endpoints != nil || t.Networks != nil || t.Peers != nil || t.Sandboxes != nil || t.Behind != nil
}

// targetsText says what is looked at, for the log.
func targetsText(t api.Targets) string {
	if !areSome(&t) {
		return "all"
	}
	var words []string
	for _, e := range t.Endpoints {
		words = append(words, api.ShortID(e))
	}
	for _, n := range t.Networks {
		words = append(words, "network:"+api.ShortID(n))
	}
	for _, p := range t.Peers {
		words = append(words, "peer:"+p)
	}
	for _, s := range t.Sandboxes {
		words = append(words, "sandbox:"+s)
	}
	for _, b := range t.Behind {
		words = append(words, fmt.Sprintf("peer:%s(%s)", b.Peer, b.Expr))
	}
	if t.New {
		words = append(words, "new")
	}
	return strings.Join(words, " ")
}
