package plugin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fabric/guard"
	"github.com/tapestry-net/tapestry/spell"
)

// Options about guards, of a network and of an endpoint.
const (
	optGuard = "tapestry.guard"
	optAllow = "tapestry.allow"
)

// guardOptions are the options about guards.
var guardOptions = []option[fabric.Guards]{
	{optGuard, func(g *fabric.Guards, value string) (err error) { g.Level, err = parseLevel(value); return err }},
	{optAllow, func(g *fabric.Guards, value string) (err error) { g.Allow, err = parseAllow(value); return err }},
}

func parseLevel(value string) (string, error) {
	if !slices.Contains(guard.Levels(), value) {
		return "", fmt.Errorf("want off, mac or full%s", meant(value, guard.Levels()))
	}
	return value, nil
}

// parseAllow reads a list. Docker's --network name=…,driver-opt=… ends an option at a comma, so + does as well.
func parseAllow(value string) (all []string, err error) {
	for s := range strings.SplitSeq(strings.ReplaceAll(value, "+", ","), ",") {
		s = strings.TrimSpace(s)
		if !slices.Contains(guard.Kinds(), s) {
			return nil, fmt.Errorf("%s: want ra (router advertisements), dhcp (a DHCP server's answers) and bpdu (what is for the next bridge), or some of them, as in ra+dhcp%s", quote(s), meant(s, guard.Kinds()))
		}
		if slices.Contains(all, s) {
			return nil, fmt.Errorf("%s is there twice", s)
		}
		all = append(all, s)
	}
	return all, nil
}

// meant ends an error with what a wrong word was probably meant to be.
func meant(word string, words []string) string {
	if near := spell.Nearest(word, words); len(near) > 0 {
		return fmt.Sprintf("; did you mean %s?", near[0])
	}
	return ""
}
