//go:build soak

package pecdiff

const mutants = 100_000
