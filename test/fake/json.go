package fake

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// DocumentedKeys reads docs/json.md, from a test of a package two levels below the root. It returns the keys of each command, in order.
func DocumentedKeys(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, command := map[string][]string{}, ""
	row := regexp.MustCompile("^\\| `([^`]+)` \\|")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if c, ok := strings.CutPrefix(line, "## tapestry "); ok {
			command = c
		}
		if m := row.FindStringSubmatch(line); m != nil {
			keys[command] = append(keys[command], m[1])
		}
	}
	return keys
}

// JSONKeys lists the keys of a decoded JSON value as docs/json.md writes them (`ports[].name`), sorted. The names of counters are data, not
// keys.
func JSONKeys(v any, prefix string) []string {
	var keys []string
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			keys = append(keys, prefix+k)
			into := "[]."
			if _, one := inner.(map[string]any); one {
				into = "."
			}
			if k != "drops" && k != "rx_dropped" && k != "strangers" && k != "outside" && k != "fields" {
				keys = append(keys, JSONKeys(inner, prefix+k+into)...)
			}
		}
	case []any:
		for _, inner := range v {
			keys = append(keys, JSONKeys(inner, prefix)...)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
