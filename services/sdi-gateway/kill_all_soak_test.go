//go:build soak

package sdigateway_test

// How many files are sent at once, and past two gateways.
const (
	namesAtOnce   = 1000
	filesPastBoth = 120
)

// everyBoundary gives all of them; see the file without the tag.
func everyBoundary(all []boundary) []boundary { return all }
