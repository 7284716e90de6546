package plugin

import "fmt"

// option is one key, and a function that applies its value to a network, an endpoint, or a part of one.
type option[T any] struct {
	key string
	set func(to *T, value string) error
}

// apply applies the options that are given.
func apply[T any](to *T, all []option[T], given map[string]any) error {
	for _, o := range all {
		value, ok, err := stringOption(given, o.key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := o.set(to, value); err != nil {
			return fmt.Errorf("%s=%s: %w", o.key, show(value), err)
		}
	}
	return nil
}

// within are the options of a part, as those of the whole.
func within[T, P any](part func(*T) *P, all []option[P]) (of []option[T]) {
	for _, o := range all {
		of = append(of, option[T]{o.key, func(to *T, value string) error { return o.set(part(to), value) }})
	}
	return of
}
