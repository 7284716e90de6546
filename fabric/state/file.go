package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrVersion is the error of an intact file that another version of tapestry wrote.
var ErrVersion = errors.New("run the tapestry that wrote it")

const version = 1

// file is the content of a state file.
type file struct {
	Version int             `json:"version"`
	Sum     string          `json:"sum"` // hex SHA-256 of record without white space
	Record  json.RawMessage `json:"record"`
}

func encode(record any) ([]byte, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(file{version, sum(body), body}, "", "  ")
	return append(b, '\n'), err
}

func decodeRecord(b []byte) (r Record, err error) { return r, decode(b, &r) }

// decode reads the record of a state file into what record points to.
func decode(b []byte, record any) error {
	var f file
	if err := json.Unmarshal(b, &f); err != nil { // not strictly: a newer version may have more fields
		return fmt.Errorf("not whole: %w", err)
	}
	if f.Version != version {
		return fmt.Errorf("it is of version %d and this tapestry reads version %d, so %w", f.Version, version, ErrVersion)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, f.Record); err != nil {
		return fmt.Errorf("its record: %w", err)
	}
	if got := sum(body.Bytes()); got != f.Sum {
		return fmt.Errorf("its content has changed since it was written (sha256 %.12s…, noted %.12s…)", got, f.Sum)
	}
	return decodeStrictly(f.Record, record)
}

// decodeStrictly reads one JSON value with known fields only, and nothing after it.
func decodeStrictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("not whole: %w", err)
	}
	if d.More() {
		return errors.New("not whole: something follows its end")
	}
	return nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
