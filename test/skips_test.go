package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestSkips: a test that cannot run here says so by testhost.Cannot, which TAPESTRY_MUST=1 turns into a failure. The only other
// reason to skip is that the caller asked for less: inside `if testing.Short()`.
func TestSkips(t *testing.T) {
	defined, calls := 0, 0
	sources(t, isTest, func(set *token.FileSet, file *ast.File) {
		raw, must := skips(file)
		for _, p := range raw {
			t.Errorf("%s skips by itself: use testhost.Cannot, which fails with TAPESTRY_MUST=1", set.Position(p))
		}
		for _, p := range must {
			t.Errorf("%s reads TAPESTRY_MUST: only testhost.Cannot does", set.Position(p))
		}
		if file.Name.Name == "testhost" && file.Scope.Lookup("Cannot") != nil {
			defined++
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && name(c) == "testhost.Cannot" {
				calls++
			}
			return true
		})
	})
	if defined != 1 || calls < 10 {
		t.Fatalf("testhost.Cannot is defined %d times and called %d times", defined, calls)
	}
}

// isTest tells whether a file, by its path from here, is Go that tests only are made of.
func isTest(path string) bool {
	return strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../test/") && strings.HasSuffix(path, ".go")
}

// skips returns the places in a file that skip a test or read TAPESTRY_MUST and should not. testhost.Cannot may do both, if it
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
		if file.Name.Name+"."+fn.Name.Name == "testhost.Cannot" && slices.Equal(calls, []string{`"TAPESTRY_MUST"`, "Fatal", "Skip"}) {
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
	const must = `{ if os.Getenv("TAPESTRY_MUST") == "1" { t.Fatal() }; t.Skip() }`
	for source, want := range map[string][2]int{
		`package x; func TestX(t *testing.T) { t.Skip("no") }`:                                        {1, 0},
		`package x; func TestX(t *testing.T) { if x { t.Skipf("no %d", 1) } else { t.SkipNow() } }`:   {2, 0},
		`package x; func TestX(t *testing.T) { t.Run("a", func(t *testing.T) { t.Skip() }) }`:         {1, 0},
		`package x; func TestX(t *testing.T) { if testing.Short() { t.Skip("long") }; t.Skip("no") }`: {1, 0},
		`package x; func TestX(t *testing.T) ` + must:                                                 {1, 1},
		`package x; func Cannot(t *testing.T) ` + must:                                                {1, 1},
		`package testhost; func Cannot(t *testing.T) ` + must:                                         {0, 0},
		`package testhost; func Cannot(t *testing.T) { t.Skip() }`:                                    {1, 0},
		`package x; func TestX(t *testing.T) { testhost.Cannot(t, "needs root") }`:                    {0, 0},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x_test.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if raw, must := skips(file); len(raw) != want[0] || len(must) != want[1] {
			t.Errorf("%s: %d skips and %d readers of TAPESTRY_MUST are found, want %v", source, len(raw), len(must), want)
		}
	}
}
