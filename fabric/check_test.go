package fabric

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckState(t *testing.T) {
	dir := t.TempDir()
	want := func(networks int, says string) {
		t.Helper()
		n, err := CheckState(dir)
		if n != networks || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%d networks, %v; want %d and %q", n, err, networks, says)
		}
	}
	want(0, "")
	s := store{dir}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	want(0, "")
	for _, id := range []string{"a1", "b2"} {
		if err := s.save(record{Network: Network{ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	want(2, "")
	torn := filepath.Join(dir, "networks", "b2.json")
	if err := os.Truncate(torn, 20); err != nil {
		t.Fatal(err)
	}
	want(0, torn)
	if info, err := os.Stat(torn); err != nil || info.Size() != 20 {
		t.Errorf("the torn record was touched: %v, %v", info, err)
	}
}
