package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"testing"
)

// sources parses, with its comments, each Go file whose path from here is wanted, and calls each with it.
func sources(t *testing.T, wanted func(path string) bool, each func(set *token.FileSet, file *ast.File)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || !wanted(path) {
			return err
		}
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err == nil {
			each(set, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
