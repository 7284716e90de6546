package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

const alerts = "../deploy/prometheus/tapestry-alerts.yml"

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	testhost.Must(t, err)
	return string(b)
}

// checkNames fails if an expression names a metric that a daemon does not have.
func checkNames(t *testing.T, expr string) {
	t.Helper()
	names := map[string]bool{"up": true}
	for line := range strings.Lines(scrape(t, everything)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "TYPE" {
			names[f[2]] = true
			if f[3] == Histogram {
				names[f[2]+"_bucket"], names[f[2]+"_sum"], names[f[2]+"_count"] = true, true, true
			}
		}
	}
	for _, name := range regexp.MustCompile(`\b(tapestry|process|go)_[a-z_]+`).FindAllString(expr, -1) {
		if !names[name] {
			t.Errorf("%s: there is no metric %s", expr, name)
		}
	}
}

// Each alert is about metrics that are there, and says what to do; each is on in a case that promtool plays through, and off in another.
func TestAlerts(t *testing.T) {
	text := readFile(t, alerts)
	rules := strings.Split(text, "- alert: ")[1:]
	if len(rules) < 10 {
		t.Fatalf("%d alerts", len(rules))
	}
	played := readFile(t, "../deploy/prometheus/tapestry-alerts-test.yml")
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		_, expr, _ := strings.Cut(rule, "expr: ")
		expr, _, _ = strings.Cut(expr, "\n")
		checkNames(t, expr)
		if _, does, _ := strings.Cut(rule, "description: "); len(does) < 60 || !strings.Contains(rule, "summary: ") || !strings.Contains(rule, "severity: ") {
			t.Errorf("%s does not say what to do", name)
		}
		if !strings.Contains(played, `alertname="`+name+`"`) {
			t.Errorf("tapestry-alerts-test.yml does not have %s", name)
		}
	}
	testhost.Tools(t, "promtool")
	for _, args := range [][]string{{"check", "rules", alerts}, {"test", "rules", "../deploy/prometheus/tapestry-alerts-test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// The dashboard is one, and each of its queries is about metrics that are there, in a syntax that promtool takes.
func TestDashboard(t *testing.T) {
	var board struct {
		Title  string
		UID    string
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	testhost.Must(t, json.Unmarshal([]byte(readFile(t, "../deploy/grafana/tapestry.json")), &board))
	ids, rules := make(map[int]bool), "groups:\n- name: dashboard\n  rules:\n"
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q: its id is another's, or it has no title or query", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			checkNames(t, target.Expr)
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$network", ".*").Replace(target.Expr)
			quoted, err := json.Marshal(expr) // which is YAML too
			testhost.Must(t, err)
			rules += "  - {record: a, expr: " + string(quoted) + "}\n"
		}
	}
	if board.Title == "" || board.UID == "" || len(ids) < 20 {
		t.Errorf("%q has %d panels", board.Title, len(ids))
	}
	testhost.Tools(t, "promtool")
	path := t.TempDir() + "/dashboard.yml"
	testhost.Must(t, os.WriteFile(path, []byte(rules), 0o600))
	if out, err := exec.Command("promtool", "check", "rules", "--lint=none", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
