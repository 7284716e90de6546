package show

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// A command that is interrupted ends, also if what it reads or writes hangs.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		time.AfterFunc(time.Minute, cancel)
		began := time.Now()
		err := Within(ctx, func(context.Context) error { <-hung; return nil })
		if took := time.Since(began); exit.Code(err) != exit.No || !strings.Contains(err.Error(), "interrupted") || took != time.Minute+endWait {
			t.Errorf("after %v: %v", took, err)
		}
		close(hung)
		if err := Within(ctx, func(context.Context) error { time.Sleep(time.Second); return nil }); err != nil {
			t.Errorf("one that ends in order: %v", err)
		}
	})
}
