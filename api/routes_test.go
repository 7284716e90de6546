package api

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoutesStandOnce holds the daemon and the commands to the names in routes.go. Tests may spell a path out.
func TestRoutesStandOnce(t *testing.T) {
	read := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Dir(path) == "../api" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		for _, literal := range []string{`"/v1/`, ` /v1/`, `"` + CaptureIDHeader, `"X-Tapestry-`} {
			if strings.Contains(string(text), literal) && !strings.HasPrefix(path, "../test/") {
				t.Errorf("%s has %s: the API's paths and headers stand in api/routes.go", path, literal)
			}
		}
		return nil
	})
	if err != nil || read < 100 {
		t.Fatalf("%d files read: %v", read, err)
	}
}

func TestPathsEscape(t *testing.T) {
	for got, want := range map[string]string{
		NetworkPath("a/b"):             "/v1/networks/a%2Fb",
		CapturePath("1?x"):             "/v1/captures/1%3Fx",
		PeerChangePath("add"):          "/v1/peers/add",
		FaultPath("[fd00::1]:1", "to"): "/v1/faults/%5Bfd00::1%5D:1/to",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
