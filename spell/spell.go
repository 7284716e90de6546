// Package spell tells how near a word is to another, for messages that say what was probably meant.
package spell

import (
	"cmp"
	"slices"
	"strings"
)

// Distance counts the letters (bytes) to put in, leave out, change, or swap with their neighbour to make b of a: the optimal
// string alignment distance. It takes time and memory of len(a) × len(b).
func Distance(a, b string) int {
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

// Nearest picks up to three of words that arg is a slip of: about a third of its letters may be wrong.
func Nearest(arg string, words []string) []string {
	type near struct {
		word string
		far  int
	}
	var found []near
	for _, w := range words {
		far := Distance(strings.ToLower(arg), strings.ToLower(w))
		if far <= max(1, (len(arg)+1)/3) && far < len(arg) {
			found = append(found, near{w, far})
		}
	}
	slices.SortFunc(found, func(a, b near) int { return cmp.Or(a.far-b.far, strings.Compare(a.word, b.word)) })
	found = slices.Compact(found)
	var picked []string
	for _, n := range found[:min(len(found), 3)] {
		picked = append(picked, n.word)
	}
	return picked
}
