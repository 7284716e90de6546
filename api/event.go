package api

import "time"

// Event is something that has happened on this host. It is an object in a line of a stream.
type Event struct {
	Time        time.Time         `json:"time"`
	Number      uint64            `json:"number"`
	Kind        string            `json:"kind"`
	Text        string            `json:"text"`
	Network     string            `json:"network,omitempty"`
	NetworkName string            `json:"network_name,omitempty"`
	Port        string            `json:"port,omitempty"`
	Container   string            `json:"container,omitempty"`
	Fields      map[string]string `json:"fields,omitempty"`
}

// EventsLost is the kind of an Event that says how many (Number) a reader who was too slow has missed.
const EventsLost = "events_lost"
