//go:build soak

package pec

const (
	ordersOfThousand = 10_000
	mutants          = 100_000
)
