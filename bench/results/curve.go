package results

import (
	"fmt"
	"strings"
)

// Add puts a point on a curve.
func (c *Curve) Add(x int, y float64) {
	c.Points = append(c.Points, Point{X: float64(x), Y: y})
}

// Judge says whether a curve is flat, and why if it is not. In why, %s stands for what one more costs.
func (c *Curve) Judge(unit float64, of, why string) {
	if len(c.Points) == 0 {
		return
	}
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	if c.Flat = last.Y <= 2*first.Y; !c.Flat && last.X > first.X {
		c.Note = strings.Replace(why, "%s", fmt.Sprintf("%.3g %s", (last.Y-first.Y)/(last.X-first.X)*unit, of), 1)
	}
}
