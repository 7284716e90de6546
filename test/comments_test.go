package test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// properNames look like names of Go and are none.
var properNames = []string{"EtherTypes", "cN", "eBPF", "gRPC", "kB", "macOS", "mDNS", "vN", "vSwitch"}

// TestComments: a comment that begins with a name tells of that name, and names nothing that is not in the code (any more).
func TestComments(t *testing.T) {
	names := map[string]bool{}
	for _, name := range properNames {
		names[name] = true
	}
	var files []*ast.File
	var positions *token.FileSet
	sources(t, func(string) bool { return true }, func(set *token.FileSet, f *ast.File) {
		positions, files = set, append(files, f)
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				names[id.Name] = true
			}
			return true
		})
	})
	if len(files) < 100 {
		t.Fatalf("%d files", len(files))
	}
	// of complains when a comment begins with another name than that of what it is about.
	of := func(doc *ast.CommentGroup, declared ...string) {
		if doc == nil {
			return
		}
		if word, _, _ := strings.Cut(strings.ReplaceAll(doc.Text(), ":", ""), " "); isName(word) && !slices.Contains(properNames, word) && !slices.Contains(declared, word) {
			t.Errorf("%s: the comment of %s begins with %s", positions.Position(doc.Pos()), strings.Join(declared, ", "), word)
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				of(d.Doc, d.Name.Name)
			case *ast.GenDecl:
				var all []string
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						all = append(all, s.Name.Name)
						of(s.Doc, s.Name.Name)
					case *ast.ValueSpec:
						var these []string
						for _, name := range s.Names {
							these = append(these, name.Name)
						}
						all = append(all, these...)
						of(s.Doc, these...)
					}
				}
				of(d.Doc, all...)
			}
		}
		for _, group := range f.Comments {
			for _, word := range strings.FieldsFunc(group.Text(), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
				if isName(word) && unicode.IsLower(rune(word[0])) && !names[word] {
					t.Errorf("%s: nothing is called %s", positions.Position(group.Pos()), word)
				}
			}
		}
	}
}

// isName tells whether a word can only be a name of Go: it has a capital behind a small letter.
func isName(word string) bool {
	small, found := false, false
	for _, r := range word {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
		found = found || small && unicode.IsUpper(r)
		small = unicode.IsLower(r)
	}
	return found
}
