//go:build soak

package pecgateway_test

// everyBoundary gives all of them; see the file without the tag.
func everyBoundary(all []boundary) []boundary { return all }
