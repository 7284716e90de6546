package exit

import (
	"errors"
	"fmt"
	"testing"
)

func TestExitCode(t *testing.T) {
	if Code(errors.New("any")) != Failure || Code(nil) != OK {
		t.Error("an error without a code of its own must exit 1, none 0")
	}
	if err := fmt.Errorf("wrapped: %w", Errorf(Usage, "want %d", 1)); Code(err) != Usage || err.Error() != "wrapped: want 1" {
		t.Errorf("exit %d, %v", Code(err), err)
	}
}
