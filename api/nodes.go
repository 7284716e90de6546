package api

// Nodes are addresses of nodes of Docker's Swarm: in an answer those that the daemon knows, in a request those that it should learn.
type Nodes struct {
	Nodes []string `json:"nodes"`
}

// Learned is what peers learn has found, and what was new.
type Learned struct {
	Found []string `json:"found"`
	New   []string `json:"new"`
	Nodes []string `json:"nodes"`
}
