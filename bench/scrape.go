package bench

import (
	"context"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
)

// scrapedEndpoints is how many endpoints a daemon has whose metrics are read.
const scrapedEndpoints = 1000

// scrapeCase measures how long Prometheus waits for the metrics of a daemon with many endpoints.
func scrapeCase(ctx context.Context, p plan, binary string, prog *progress) (results.Case, error) {
	prog.status("scrapes of %d endpoints", scrapedEndpoints)
	c := results.Case{Rung: results.Scraping, Measure: results.Scrape, Unit: "ms", Lower: true, Results: []results.Sample{}, Ratios: []results.Ratio{}}
	ours, plain, series, err := bed.Scrapes(ctx, binary, scrapedEndpoints, p.rounds)
	if err != nil {
		return c, err
	}
	c.Results = append(c.Results, ours.Sample(results.Tapestry), plain.Sample(results.PlainHandler))
	b := results.BoundOf(c.Rung, c.Measure, results.PlainHandler)
	if p.checks {
		b.Limit = b.CheckLimit(p.slowSyscalls)
	} else {
		alone := results.BoundOf(c.Rung, c.Measure, "")
		if c.Bound, c.Aim, c.Verdict = alone.Limit, alone.Aim, results.OK; c.Results[0].Median > c.Bound {
			c.Verdict = results.Above
		}
	}
	x := results.Compare(results.PlainHandler, ours, plain, b, true)
	c.Ratios = append(c.Ratios, x)
	prog.line("%s: %s of %d series  tapestry %s, %s %s ms", c.Rung, c.Measure, series, results.Format(c.Results[0].Median), results.PlainHandler, results.Format(c.Results[1].Median))
	return c, nil
}
