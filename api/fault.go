package api

// FaultSpec is fault.Spec in JSON, and the body of a PUT of FaultPath. Shares (Loss, Duplicate, Reorder, Corrupt) are from 0 to 1.
type FaultSpec struct {
	DelaySeconds  float64 `json:"delay_seconds"`
	JitterSeconds float64 `json:"jitter_seconds"`
	Loss          float64 `json:"loss"`
	Burst         float64 `json:"burst"`
	Duplicate     float64 `json:"duplicate"`
	Reorder       float64 `json:"reorder"`
	Corrupt       float64 `json:"corrupt"`
	RateBits      int64   `json:"rate_bits"`
	Seed          uint64  `json:"seed"`
	ForSeconds    float64 `json:"for_seconds"`
}

// Fault is one active fault: at one port, in one direction.
type Fault struct {
	Network     string `json:"network"`
	NetworkName string `json:"network_name,omitempty"`
	VNI         uint32 `json:"vni"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Container   string `json:"container,omitempty"`
	Direction   string `json:"direction"`
	FaultSpec
	LeftSeconds  *float64 `json:"left_seconds"` // null: it does not end by itself
	Frames       uint64   `json:"frames"`
	Passed       uint64   `json:"passed"`
	Lost         uint64   `json:"lost"`
	OverRate     uint64   `json:"over_rate"`
	Overflow     uint64   `json:"overflow"`
	Duplicated   uint64   `json:"duplicated"`
	Delayed      uint64   `json:"delayed"`
	Reordered    uint64   `json:"reordered"`
	Corrupted    uint64   `json:"corrupted"`
	Refused      uint64   `json:"refused"`
	Waiting      int      `json:"waiting"`
	WaitingBytes int      `json:"waiting_bytes"`
}

// Cleared is the answer to a DELETE of FaultPath: how many faults there were.
type Cleared struct {
	Cleared int `json:"cleared"`
}
