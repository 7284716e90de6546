package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPatience: no time limit of a test is so short that a slow machine reaches it: each is a minute at least, for what hangs. Less than
// 100 ms is not a limit but a pause between tries, and in a synctest bubble time does not depend on the machine.
func TestPatience(t *testing.T) {
	limits := 0
	sources(t, isTest, func(set *token.FileSet, file *ast.File) {
		for _, im := range file.Imports {
			if im.Path.Value == `"testing/synctest"` {
				return
			}
		}
		short, all := shortLimits(file)
		limits += all
		for _, p := range short {
			t.Errorf("%s: this limit fails on a slow machine: wait for a minute at least, or for an event", set.Position(p))
		}
	})
	if limits < 20 {
		t.Fatalf("%d limits", limits)
	}
}

// shortLimits finds the time limits of a file that are too short, and counts all.
func shortLimits(file *ast.File) (short []token.Pos, all int) {
	limit := func(e ast.Expr) {
		d, ok := duration(e)
		if !ok || d < 100*time.Millisecond {
			return
		}
		if all++; d < time.Minute {
			short = append(short, e.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			_, method, _ := strings.Cut(name(n), ".")
			switch method {
			case "After", "WithTimeout": // time.After, context.WithTimeout
				limit(n.Args[len(n.Args)-1])
			case "Eventually": // testhost.Eventually
				limit(n.Args[1])
			case "Add": // time.Now().Add
				if now, ok := n.Fun.(*ast.SelectorExpr).X.(*ast.CallExpr); ok && name(now) == "time.Now" {
					limit(n.Args[0])
				}
			}
		case *ast.BinaryExpr: // took > 10*time.Second, time.Since(began) > …
			what := ""
			switch x := n.X.(type) {
			case *ast.Ident:
				what = x.Name
			case *ast.SelectorExpr:
				what = x.Sel.Name
			case *ast.CallExpr:
				what = name(x)
			}
			if (what == "took" || what == "time.Since") && (n.Op == token.GTR || n.Op == token.GEQ) {
				limit(n.Y)
			}
		}
		return true
	})
	return short, all
}

// duration evaluates what is written like 10*time.Second or time.Minute.
func duration(e ast.Expr) (time.Duration, bool) {
	units := map[string]time.Duration{"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
		"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}
	switch e := e.(type) {
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return units[e.Sel.Name], ok && x.Name == "time" && units[e.Sel.Name] > 0
	case *ast.BinaryExpr:
		n, ok := e.X.(*ast.BasicLit)
		unit, isUnit := duration(e.Y)
		if !ok || !isUnit || e.Op != token.MUL {
			return 0, false
		}
		count, err := strconv.ParseInt(n.Value, 0, 64)
		return time.Duration(count) * unit, err == nil
	}
	return 0, false
}

// TestPatienceFinds: shortLimits finds what it should.
func TestPatienceFinds(t *testing.T) {
	for source, want := range map[string]int{
		`<-time.After(5 * time.Second)`:                                     1,
		`<-time.After(time.Millisecond)`:                                    0,
		`<-time.After(time.Minute)`:                                         0,
		`for end := time.Now().Add(10*time.Second); ; {}`:                   1,
		`c.SetDeadline(time.Now().Add(500*time.Millisecond))`:               1,
		`ctx, cancel := context.WithTimeout(t.Context(), 30 * time.Second)`: 1,
		`testhost.Eventually(t, 5*time.Second, nil)`:                        1,
		`testhost.Eventually(t, patience, nil)`:                             0,
		`if took > 2*time.Second {}`:                                        1,
		`if time.Since(began) > 2*time.Second {}`:                           1,
		`if tc.last > 10*time.Second {}`:                                    0,
		`if took < 20*time.Millisecond {}`:                                  0,
		`x.Add(5 * time.Second)`:                                            0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x_test.go", "package x\nfunc f() { "+source+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if short, _ := shortLimits(file); len(short) != want {
			t.Errorf("%s: %d found, want %d", source, len(short), want)
		}
	}
}
