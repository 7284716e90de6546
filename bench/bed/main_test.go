package bed

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// The tests' own binary is an agent too, and the bench that is killed: both need processes for themselves.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		if err := traffic.Agent(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if bed := os.Getenv("BED"); bed != "" { // behind the agents, which a bed starts with its own environment
		holdBed(os.Getenv("TAPESTRY"), bed)
	}
	os.Exit(m.Run())
}
