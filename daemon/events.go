package daemon

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/events"
)

func toEvent(e events.Event) api.Event {
	return api.Event{Time: e.Time, Number: e.Number, Kind: e.Kind.String(), Text: e.Text, Network: e.Network, Port: e.Port, Fields: e.Fields}
}

// events answers with what has happened since a time, and with follow=yes with what happens from then on, until the client hangs up.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseInt(r.FormValue("from"), 10, 64)
	if err != nil && r.FormValue("from") != "" {
		reply(w, http.StatusBadRequest, api.Error{Error: "from: want nanoseconds since 1970"})
		return
	}
	before, f := a.Events.Follow(time.Unix(0, from))
	defer f.Close()
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // the server's deadline was for the request, which has been read
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	write := func(all ...api.Event) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(readWait)) // a client that does not read must not hold memory
		for _, e := range all {
			if lines.Encode(e) != nil {
				return false
			}
		}
		return conn.Flush() == nil
	}
	if !write(api.Map(before, toEvent)...) || r.FormValue("follow") != "yes" {
		return
	}
	for {
		select {
		case <-a.Ending:
			return
		case <-r.Context().Done():
			return
		case e := <-f.Next():
			if lost := f.Lost(); lost > 0 && !write(api.Event{Time: time.Now(), Number: lost, Kind: api.EventsLost, Text: "events that came faster than they were read"}) {
				return
			}
			if !write(toEvent(e)) {
				return
			}
		}
	}
}
