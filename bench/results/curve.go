package results

import (
	"fmt"
	"strings"
)

// Add adds a point to a curve.
func (c *Curve) Add(x int, y float64) {
	c.Points = append(c.Points, Point{X: float64(x), Y: y})
}

// Judge sets Flat, and Note to why if the curve is not flat. In why, %s stands for what one more of X costs: (Y/X)·unit, in
// units called of.
func (c *Curve) Judge(unit float64, of, why string) {
	if len(c.Points) == 0 {
		return
	}
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	if c.Flat = last.Y <= 2*first.Y; !c.Flat && last.X > first.X {
		c.Note = strings.Replace(why, "%s", fmt.Sprintf("%.3g %s", (last.Y-first.Y)/(last.X-first.X)*unit, of), 1)
	}
}
