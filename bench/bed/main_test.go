package bed

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// The tests' own binary is also the agent, and the bench that is killed: both need a process of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		if err := traffic.Agent(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if bed := os.Getenv("BED"); bed != "" { // after the agent, which inherits this environment
		holdBed(os.Getenv("TAPESTRY"), bed)
	}
	os.Exit(m.Run())
}
