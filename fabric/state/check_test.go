package state

import (
	"os"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := Dir(t.TempDir())
	want := func(networks int, says string) {
		t.Helper()
		n, err := dir.Check()
		if n != networks || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%d networks, %v; want %d and %q", n, err, networks, says)
		}
	}
	want(0, "")
	if err := dir.Prepare(); err != nil {
		t.Fatal(err)
	}
	want(0, "")
	for _, id := range []string{"a1", "b2"} {
		if err := dir.Save(Record{Network: Network{ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	want(2, "")
	torn := dir.Network("b2")
	if err := os.Truncate(torn, 20); err != nil {
		t.Fatal(err)
	}
	want(0, torn)
	if info, err := os.Stat(torn); err != nil || info.Size() != 20 {
		t.Errorf("the torn record was touched: %v, %v", info, err)
	}
}
