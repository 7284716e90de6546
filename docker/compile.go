package docker

import (
	"errors"
	"net/netip"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// CompileFilter reads the filter, and resolves the names in it.
func CompileFilter(expr string, addrs filter.Names) (*filter.Filter, api.Filter, error) {
	return CompileFilterFor(pcapng.Ethernet, expr, addrs)
}

// CompileFilterFor is CompileFilter for frames of another link type.
func CompileFilterFor(link int, expr string, addrs filter.Names) (*filter.Filter, api.Filter, error) {
	want := api.Filter{Expr: expr}
	f, err := filter.CompileFor(link, expr, func(name string) []netip.Addr {
		all := addrs(name)
		if len(all) > 0 {
			if want.Names == nil {
				want.Names = make(map[string][]string)
			}
			want.Names[name] = api.Map(all, netip.Addr.String)
		}
		return all
	})
	var bad *filter.SyntaxError
	if errors.As(err, &bad) {
		return nil, want, exit.Errorf(exit.Usage, "the filter cannot be read:\n%s", bad.Caret())
	}
	return f, want, err
}
