package bench

import (
	"context"
	"fmt"
)

// looking is tapestry with somebody who looks at its frames, or nobody.
type looking struct {
	tapestry
	as       string // its name
	recorder string // --recorder
	capture  string // arguments of `tapestry capture`, which are for a shell; "": nobody captures
}

func (l looking) name() string { return l.as }

func (l looking) open(ctx context.Context, s site) error {
	if err := l.create(ctx, s, "--recorder", l.recorder); err != nil || l.capture == "" {
		return err
	}
	return s.keep(s.inside(ctx, "sh", "-c", fmt.Sprintf("%s capture all --api-socket /run/tapestry.sock --no-limit %s", l.binary, l.capture)), "capturing")
}

// looks are the rungs where tapestry is measured against itself: what looking costs.
func looks(binary string) []rung {
	nobody := func(name string) way { return looking{tapestry{binary}, name, "0", ""} }
	one := func(name string, with looking, against string, across bool, more ...measure) rung {
		with.tapestry, with.as = tapestry{binary}, ourWay
		flow := oneFlow()
		flow.rank = full
		return rung{name, []way{with, nobody(against)}, across, 0.8, append([]measure{flow}, more...)}
	}
	return []rung{
		one(recorderOn, looking{recorder: "32MB"}, recorderOff, false, smallPackets(full)),
		one(recorderAcross, looking{recorder: "32MB"}, recorderOff, true),
		one(stuckReader, looking{recorder: "0", capture: "-w - | sleep 100000"}, nobodyLooks, false),
		one(toFile, looking{recorder: "0", capture: "-s 128 -w /run/all.pcapng"}, nobodyLooks, false, smallPackets(full)),
	}
}
