package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// target is a network that a command was asked for, or all of them, with the names that Docker gives.
type target struct {
	id     string // "": all
	docker *docker
}

// find looks for the network that arg names; "" means all and asks the daemon nothing.
func (c *client) find(ctx context.Context, arg string) (target, error) {
	d, err := c.askDocker(ctx)
	if err != nil || arg == "" {
		return target{docker: d}, err
	}
	all, err := c.networks(ctx)
	if err != nil {
		return target{}, err
	}
	n, err := resolve(arg, all, d)
	return target{n.ID, d}, err
}

// resolve takes, in this order: Docker's name, a whole id, a VNI, the beginning of an id.
func resolve(arg string, all []networkReply, d *docker) (networkReply, error) {
	vni, err := strconv.ParseUint(arg, 10, 24)
	if err != nil {
		vni = 0
	}
	ways := []func(n networkReply) bool{
		func(n networkReply) bool { return d.name(n.ID) == arg },
		func(n networkReply) bool { return n.ID == arg },
		func(n networkReply) bool { return vni != 0 && uint64(n.VNI) == vni },
		func(n networkReply) bool { return strings.HasPrefix(n.ID, arg) },
	}
	for _, way := range ways {
		var match []networkReply
		for _, n := range all {
			if way(n) {
				match = append(match, n)
			}
		}
		switch len(match) {
		case 0:
			continue
		case 1:
			return match[0], nil
		}
		return networkReply{}, failf(exitUsage, "%q can be %s: name one by more of its id", arg,
			strings.Join(each(match, d.describe), " or "))
	}
	return networkReply{}, d.notFound(arg, all)
}

// describe tells networks with one name or one beginning apart.
func (d *docker) describe(n networkReply) string {
	name := d.name(n.ID)
	if name == "" {
		return n.ID
	}
	return fmt.Sprintf("%s (%s)", n.ID, name)
}

// notFound says why no network of this daemon is called arg, and what it may have meant.
func (d *docker) notFound(arg string, all []networkReply) error {
	for _, n := range d.networks {
		if n.Name != arg && n.ID != arg && (len(arg) < 12 || !strings.HasPrefix(n.ID, arg)) {
			continue
		}
		other := ""
		if d.elsewhere != nil {
			other = d.elsewhere(n.ID)
		}
		return failf(exitNoTarget, "network %s exists but its driver is %s, and this daemon does not have it%s", n.Name, n.Driver, other)
	}
	unnamed := ""
	if !d.answered {
		unnamed = fmt.Sprintf(" (Docker does not answer at %s, so networks are known by id and VNI only)", d.at)
	}
	if len(all) == 0 {
		return failf(exitNoTarget, "no network %q: this daemon has none yet%s", arg, unnamed)
	}
	var words, labels []string
	for _, n := range all {
		labels = append(labels, d.label(n.ID))
		words = append(words, d.label(n.ID), n.ID[:min(len(n.ID), max(len(arg), 4))])
		if n.VNI != 0 {
			words = append(words, strconv.FormatUint(uint64(n.VNI), 10))
		}
	}
	if near := nearest(arg, words); len(near) > 0 {
		return failf(exitNoTarget, "no network %q, did you mean %s?%s", arg, strings.Join(near, " or "), unnamed)
	}
	slices.Sort(labels)
	if len(labels) > 5 {
		labels = append(labels[:5], "…")
	}
	return failf(exitNoTarget, "no network %q, there are: %s%s", arg, strings.Join(labels, ", "), unnamed)
}

// nearest picks up to three of words that arg is a slip of: about a third of its letters may be wrong.
func nearest(arg string, words []string) []string {
	type near struct {
		word string
		far  int
	}
	var found []near
	for _, w := range words {
		far := distance(strings.ToLower(arg), strings.ToLower(w))
		if far <= max(1, (len(arg)+1)/3) && far < len(arg) {
			found = append(found, near{w, far})
		}
	}
	slices.SortFunc(found, func(a, b near) int { return cmp.Or(a.far-b.far, strings.Compare(a.word, b.word)) })
	found = slices.Compact(found)
	return each(found[:min(len(found), 3)], func(n near) string { return n.word })
}

// distance is Levenshtein's, with two neighbours swapped as one slip: letters put in, left out, changed or swapped.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			d[i][j] = min(change, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
