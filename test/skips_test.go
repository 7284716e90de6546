package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSkips: a test that cannot run here says so by its room's func cannot, which TAPESTRY_MUST=1 turns into a failure. The
// only other reason to skip is that the caller asked for less: inside `if testing.Short()`.
func TestSkips(t *testing.T) {
	rooms := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		raw, must := skips(file)
		for _, p := range raw {
			t.Errorf("%s skips by itself: use the room's func cannot, which fails with TAPESTRY_MUST=1", set.Position(p))
		}
		for _, p := range must {
			t.Errorf("%s reads TAPESTRY_MUST: only the room's func cannot does", set.Position(p))
		}
		if file.Scope.Lookup("cannot") != nil {
			rooms[filepath.Dir(path)] = true
		}
		return nil
	})
	if err != nil || len(rooms) < 8 {
		t.Fatalf("%d rooms have a func cannot, %v", len(rooms), err)
	}
}

// skips returns the places in a file that skip a test or read TAPESTRY_MUST and should not. The func cannot may do both, if it
// reads TAPESTRY_MUST and fails before it skips.
func skips(file *ast.File) (raw, must []token.Pos) {
	var short [][2]token.Pos
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		var calls []string
		var skip, read []token.Pos
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.IfStmt:
				if c, ok := n.Cond.(*ast.CallExpr); ok && name(c) == "testing.Short" {
					short = append(short, [2]token.Pos{n.Pos(), n.End()})
				}
			case *ast.BasicLit:
				if n.Value == `"TAPESTRY_MUST"` {
					read, calls = append(read, n.Pos()), append(calls, n.Value)
				}
			case *ast.CallExpr:
				_, method, _ := strings.Cut(name(n), ".")
				switch method {
				case "Skip", "Skipf", "SkipNow":
					if !slices.ContainsFunc(short, func(s [2]token.Pos) bool { return s[0] <= n.Pos() && n.Pos() < s[1] }) {
						skip = append(skip, n.Pos())
					}
				}
				calls = append(calls, method)
			}
			return true
		})
		calls = slices.DeleteFunc(calls, func(c string) bool { return c != `"TAPESTRY_MUST"` && c != "Fatal" && c != "Skip" })
		if fn.Name.Name == "cannot" && slices.Equal(calls, []string{`"TAPESTRY_MUST"`, "Fatal", "Skip"}) {
			continue
		}
		raw, must = append(raw, skip...), append(must, read...)
	}
	return raw, must
}

// name is the called function, as "package.Function" or "variable.Method".
func name(c *ast.CallExpr) string {
	if s, ok := c.Fun.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name + "." + s.Sel.Name
		}
		return "." + s.Sel.Name
	}
	return ""
}

// TestSkipsAreFound: skips finds what it should.
func TestSkipsAreFound(t *testing.T) {
	for source, want := range map[string][2]int{
		`func TestX(t *testing.T) { t.Skip("no") }`:                                                  {1, 0},
		`func TestX(t *testing.T) { if x { t.Skipf("no %d", 1) } else { t.SkipNow() } }`:             {2, 0},
		`func TestX(t *testing.T) { t.Run("a", func(t *testing.T) { t.Skip() }) }`:                   {1, 0},
		`func TestX(t *testing.T) { if testing.Short() { t.Skip("long") }; t.Skip("no") }`:           {1, 0},
		`func TestX(t *testing.T) { if os.Getenv("TAPESTRY_MUST") == "1" { t.Fatal() }; t.Skip() }`:  {1, 1},
		`func cannot(t *testing.T) { if os.Getenv("TAPESTRY_MUST") == "1" { t.Fatal() }; t.Skip() }`: {0, 0},
		`func cannot(t *testing.T) { t.Skip() }`:                                                     {1, 0},
		`func TestX(t *testing.T) { cannot(t, "needs root") }`:                                       {0, 0},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x_test.go", "package x\n"+source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if raw, must := skips(file); len(raw) != want[0] || len(must) != want[1] {
			t.Errorf("%s: %d skips and %d readers of TAPESTRY_MUST are found, want %v", source, len(raw), len(must), want)
		}
	}
}
