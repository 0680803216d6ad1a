//go:build !soak

package pecdiff

// mutants is how many damaged messages the readers are held to each other over; with the build tag soak a hundred thousand.
const mutants = 5_000
