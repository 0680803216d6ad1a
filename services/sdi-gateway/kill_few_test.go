//go:build !soak

package sdigateway_test

// How many files the quick run sends at once, and past two gateways; the build tag soak sends more.
const (
	namesAtOnce   = 50
	filesPastBoth = 30
)

// everyBoundary gives those that the quick run has time for: the ones at which most could go wrong. The build tag
// soak runs them all.
func everyBoundary(all []boundary) []boundary {
	var chosen []boundary
	for _, b := range all {
		switch b.name {
		case "answered, not recorded", "support about to be removed", "handed on, not marked", "file known, not delivered",
			"bound, not asked for", "delivered, not known", "answer saved, not finished", "received, not finished":
			chosen = append(chosen, b)
		}
	}
	return chosen
}
