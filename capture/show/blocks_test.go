package show

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// An interrupted command ends even if what it reads from or writes to blocks.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hung := make(chan struct{})
		time.AfterFunc(time.Minute, cancel)
		began := time.Now()
		err := RunInterruptible(ctx, func(context.Context) error { <-hung; return nil })
		if took := time.Since(began); exit.Code(err) != exit.Failure || !strings.Contains(err.Error(), "interrupted") || took != time.Minute+2*StopTimeout {
			t.Errorf("after %v: %v", took, err)
		}
		close(hung)
		if err := RunInterruptible(ctx, func(context.Context) error { time.Sleep(time.Second); return nil }); err != nil {
			t.Errorf("one that ends in order: %v", err)
		}
	})
}
