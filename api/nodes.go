package api

// Nodes are addresses of nodes: those that are known, or, in a request, to be known.
type Nodes struct {
	Nodes []string `json:"nodes"`
}

// Learned is what peers learn has found, and what was new.
type Learned struct {
	Found []string `json:"found"`
	New   []string `json:"new"`
	Nodes []string `json:"nodes"`
}
